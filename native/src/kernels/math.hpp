// Functions of vectors, and the activations made of them.
//
// Each is within about 4e-7 of the exact value, relative or absolute, and has PyTorch's limits at +-inf;
// NaN passes. Coefficients are minimax fits (Lawson's weighted least squares in float64) to the
// function and interval named beside them. None relies on fma's single rounding.
#pragma once

namespace ff::FF_ISA {

// --- exp and log ---

constexpr float kRounder = 12582912.0f;  // 1.5 * 2^23: adding it leaves the nearest integer in the low bits

// x = n ln 2 + r with |r| <= ln 2 / 2. `n_bits` has n in its low bits. |x| < 2^21.
FF_INLINE vf reduce_exponent(vf x, vf& n_bits) {
    n_bits = fma(x, set1(1.44269504f), set1(kRounder));
    const vf n = sub(n_bits, set1(kRounder));
    // ln 2 in two parts, the first so short that n times it is exact
    return fnma(n, set1(-2.12194440e-4f), fnma(n, set1(0.693359375f), x));
}

// exp(r) - 1 for |r| <= ln 2 / 2; 1.3e-8 relative.
FF_INLINE vf expm1_near_zero(vf r) {
    vf p = fma(set1(0.00138825213f), r, set1(0.00836652052f));
    p = fma(p, r, set1(0.0416672006f));
    p = fma(p, r, set1(0.166665435f));
    p = fma(p, r, set1(0.49999997f));
    return fma(mul(r, r), p, r);
}

// Below 2^-126 the result is 0.
FF_INLINE vf exp_(vf x) {
    vf n_bits;
    const vf r = reduce_exponent(at_most(at_least(x, set1(-87.5f)), set1(89.0f)), n_bits);
    // 2^(n - 1), so that n = 128 overflows in the addition only; n = -126 gives 0
    const vf half_power = from_bits(addi(shift_left<23>(bits(n_bits)), seti(126 << 23)));
    const vf half = fma(expm1_near_zero(r), half_power, half_power);
    return add(half, half);
}

// For x <= 88. Relative precision near 0 too.
FF_INLINE vf expm1_(vf x) {
    vf n_bits;
    const vf r = reduce_exponent(at_least(x, set1(-80.0f)), n_bits);
    const vf power = from_bits(addi(shift_left<23>(bits(n_bits)), seti(127 << 23)));
    return fma(expm1_near_zero(r), power, sub(power, set1(1)));
}

FF_INLINE vf log_(vf x) {
    const vm tiny = less(x, set1(1.17549435e-38f));
    const vf normal = select(tiny, mul(x, set1(8388608.0f)), x);  // 2^23
    // x = m 2^n with sqrt(1/2) <= m < sqrt(2): the bits of sqrt(1/2) are the origin
    const vi offset = subi(bits(normal), seti(0x3f3504f3));
    const vf n = sub(to_float(shift_right<23>(offset)), select(tiny, set1(23), zero()));
    const vf m = from_bits(addi(andi(offset, seti(0x007fffff)), seti(0x3f3504f3)));
    const vf f = sub(m, set1(1));
    const vf s = div(f, add(f, set1(2)));  // log(m) = 2 atanh(s), |s| <= 0.172
    const vf z = mul(s, s);
    vf p = fma(set1(0.298720092f), z, set1(0.399775326f));
    p = mul(fma(p, z, set1(0.666667759f)), z);  // 1.6e-9
    // 2 s = f - f s, where f is exact
    const vf log_m = fnma(s, sub(f, p), f);
    const vf y = fma(n, set1(0.693359375f), fma(n, set1(-2.12194440e-4f), log_m));
    const vf infinity = set1(__builtin_inff());
    const vf edge = select(less(x, zero()), set1(__builtin_nanf("")), select(less(zero(), x), infinity, neg(infinity)));
    const vf inside = select(less(zero(), x), select(less(x, infinity), y, edge), edge);
    return select(is_nan(x), x, inside);
}

// log(1 + u) for 0 <= u <= 1, relative precision near 0 too.
FF_INLINE vf log1p_unit(vf u) {
    const vf s = div(u, add(u, set1(2)));  // log(1 + u) = 2 atanh(s), s <= 1/3
    const vf z = mul(s, s);
    vf p = fma(set1(0.280258566f), z, set1(0.279988796f));
    p = fma(p, z, set1(0.400217146f));
    p = fma(p, z, set1(0.666664124f));  // 9e-9
    return fma(mul(s, z), p, add(s, s));
}

// --- sigmoid and tanh ---

// In AVX-512 a reciprocal (14 bits) and Newton's step are no faster than these divisions, which run
// beside the polynomials.

// x / (1 + exp(-y)), which keeps its relative precision where y is far below 0, down to -87.
FF_INLINE vf times_sigmoid(vf x, vf y) { return div(x, add(exp_(neg(y)), set1(1))); }

FF_INLINE vf tanh_(vf x) {
    const vf e = expm1_(at_most(add(abs(x), abs(x)), set1(40)));  // exp(2 |x|) - 1; at 40 the quotient is 1
    return copysign(div(e, add(e, set1(2))), x);
}

// --- the normal distribution ---

// 1 - Phi(a) for a >= 0, Phi the normal distribution's cumulative function; 4.5e-8 before rounding.
// Its fourth root is so close to a polynomial that eight coefficients do, where Phi itself would need
// thirteen and a clamp; and the polynomial falls below 0 just beyond 5.2 and stays there.
FF_INLINE vf normal_tail(vf a) {
    vf p = fma(set1(-3.44359069e-06f), a, set1(5.90112977e-05f));
    p = fma(p, a, set1(-0.000310664618f));
    p = fma(p, a, set1(-2.62623034e-05f));
    p = fma(p, a, set1(0.0037821997f));
    p = fma(p, a, set1(0.00466060406f));
    p = fma(p, a, set1(-0.0502021909f));
    p = fma(p, a, set1(-0.167733267f));
    p = at_least(fma(p, a, set1(0.840896368f)), zero());
    p = mul(p, p);
    return mul(p, p);
}

// x Phi(x) = max(x, 0) - |x| (1 - Phi(|x|)). NaN for +-inf, as PyTorch's is in float32.
FF_INLINE vf gelu_(vf x) {
    const vf a = abs(x);
    return fnma(a, normal_tail(a), at_least(x, zero()));
}

FF_INLINE vf erf_(vf x) {
    const vf a = abs(x);
    const vf tail = normal_tail(mul(at_most(a, set1(8)), set1(1.41421356f)));
    const vf far = copysign(fnma(set1(2), tail, set1(1)), x);
    const vf z = mul(x, x);
    vf p = fma(set1(-0.000563142064f), z, set1(0.00491755176f));  // erf(x) / x on [-1, 1]; 4e-8
    p = fma(p, z, set1(-0.0267113112f));
    p = fma(p, z, set1(0.112801805f));
    p = fma(p, z, set1(-0.37612325f));
    p = fma(p, z, set1(1.12837911f));
    return select(less(a, set1(1)), mul(x, p), far);
}

// --- activations ---

FF_INLINE vf clamp_(vf x, vf low, vf high) { return at_most(at_least(x, low), high); }

FF_INLINE vf hardsigmoid_(vf x) { return clamp_(fma(x, set1(1.0f / 6), set1(0.5f)), zero(), set1(1)); }

// log(1 + exp(x))
FF_INLINE vf softplus_(vf x) { return add(at_least(x, zero()), log1p_unit(exp_(neg(abs(x))))); }

// x tanh(softplus(x)); with e = exp(x), tanh(log(1 + e)) = e (e + 2) / (e (e + 2) + 2).
FF_INLINE vf mish_(vf x) {
    const vf e = exp_(at_most(x, set1(40)));
    const vf q = mul(e, add(e, set1(2)));
    return mul(x, div(q, add(q, set1(2))));
}

FF_INLINE vf elu_(vf x, vf alpha) { return select(less(zero(), x), x, mul(alpha, expm1_(at_most(x, zero())))); }

// a and b are Activation's, in every lane; a prelu's slopes are a.
template <Act A>
FF_INLINE vf activate(vf x, [[maybe_unused]] vf a, [[maybe_unused]] vf b) {
    if constexpr (A == Act::none) return x;
    else if constexpr (A == Act::relu) return at_least(x, zero());
    else if constexpr (A == Act::relu6) return clamp_(x, zero(), set1(6));
    else if constexpr (A == Act::hardswish) return mul(x, hardsigmoid_(x));
    else if constexpr (A == Act::hardsigmoid) return hardsigmoid_(x);
    else if constexpr (A == Act::silu) return times_sigmoid(x, x);
    else if constexpr (A == Act::gelu) return gelu_(x);
    else if constexpr (A == Act::gelu_tanh) {
        // x (1 + tanh(y)) / 2 = x sigmoid(2 y) with y = sqrt(2 / pi) (x + 0.044715 x^3)
        return times_sigmoid(x, mul(x, fma(mul(x, x), set1(0.0713548163f), set1(1.59576912f))));
    }
    else if constexpr (A == Act::sigmoid) return times_sigmoid(set1(1), x);
    else if constexpr (A == Act::tanh) return tanh_(x);
    else if constexpr (A == Act::leaky_relu || A == Act::prelu) return select(less(zero(), x), x, mul(x, a));
    else if constexpr (A == Act::elu) return elu_(x, a);
    else if constexpr (A == Act::selu) return mul(set1(1.05070099f), elu_(x, set1(1.67326324f)));
    else if constexpr (A == Act::mish) return mish_(x);
    else if constexpr (A == Act::softplus) return softplus_(x);
    else if constexpr (A == Act::clamp) return clamp_(x, a, b);
    else if constexpr (A == Act::abs) return abs(x);
    else if constexpr (A == Act::exp) return exp_(x);
    else if constexpr (A == Act::log) return log_(x);
    else if constexpr (A == Act::sqrt) return sqrt(x);
    else if constexpr (A == Act::rsqrt) return div(set1(1), sqrt(x));
    else if constexpr (A == Act::neg) return neg(x);
    else if constexpr (A == Act::reciprocal) return div(set1(1), x);
    else if constexpr (A == Act::square) return mul(x, x);
    else if constexpr (A == Act::erf) return erf_(x);
    else return fma(x, a, b);
}

template <Act A>
struct ActOf {
    static constexpr Act value = A;
};

// Calls f(ActOf<kind>()): one switch outside a loop, and `activate<decltype(k)::value>` inside it.
template <class F>
FF_INLINE void with_act(Act kind, F f) {
#define FF_CASE(name) \
    case Act::name: return f(ActOf<Act::name>());
    switch (kind) { FF_ACTS(FF_CASE) }
#undef FF_CASE
}

// out = act(x) over n floats that lie together; out may be x.
static void sweep(const Activation& act, const float* x, float* out, int64_t n) {
    const vf a = set1(act.a), b = set1(act.b);
    with_act(act.kind, [&](auto kind) {
        constexpr Act A = decltype(kind)::value;
        int64_t i = 0;
        for (; i + 4 * kLanes <= n; i += 4 * kLanes) {
            vf v[4];
            for (int j = 0; j < 4; ++j) v[j] = load(x + i + j * kLanes);
            for (int j = 0; j < 4; ++j) v[j] = activate<A>(v[j], a, b);
            for (int j = 0; j < 4; ++j) store(out + i + j * kLanes, v[j]);
        }
        for (; i + kLanes <= n; i += kLanes) store(out + i, activate<A>(load(x + i), a, b));
        if (i < n) store_n(out + i, activate<A>(load_n(x + i, n - i), a, b), n - i);
    });
}

[[maybe_unused]] static void sweep(const Activation& act, float* p, int64_t n) {
    if (act.kind != Act::none) sweep(act, p, p, n);
}

}  // namespace ff::FF_ISA
