// What comes after a product: activation, residual, second activation. Part of it is done while the sums are in
// registers. The rest is a sweep over rows that were just written and lie in L1.
#pragma once

#include "kernels.hpp"

namespace ff::FF_ISA {

// The activations that are a range to clamp to: none, relu, relu6 and clamp. Others would need more registers than
// the sums leave free, and spill them.
struct Bounds {
    float low, high;
    bool active;
};

static bool is_clamp(const Activation& act) {
    return act.kind == Act::none || act.kind == Act::relu || act.kind == Act::relu6 || act.kind == Act::clamp;
}

static Bounds bounds_of(const Activation& act) {
    constexpr float inf = __builtin_inff();
    switch (act.kind) {
        case Act::relu: return {0, inf, true};
        case Act::relu6: return {0, 6, true};
        case Act::clamp: return {act.a, act.b, true};
        default: return {-inf, inf, false};
    }
}

static bool has_slope(const Activation& act) { return act.kind == Act::leaky_relu || act.kind == Act::prelu; }

// What is done in registers, and what is left to finish().
struct Epilogue {
    Bounds act, post;
    bool sloped;          // act is leaky_relu or prelu
    const float* slopes;  // prelu: one for each output channel, by panels
    alignas(64) float leak[kPanel];  // leaky_relu: a panel of its one slope
    bool residual_inside;
    bool sweep_act, sweep_post, residual_after;
    Activation act_kind, post_kind;

    const float* slope(int64_t panel) const { return !sloped ? nullptr : slopes ? slopes + panel * kPanel : leak; }
    int64_t slope_step() const { return slopes ? kPanel : 0; }  // floats from one panel's to the next's
};

static Epilogue epilogue_of(const Activation& act, const Activation& post, const float* slopes, bool residual) {
    Epilogue e;
    e.act_kind = act;
    e.post_kind = post;
    e.sloped = has_slope(act);
    e.slopes = act.kind == Act::prelu ? slopes : nullptr;
    for (float& one : e.leak) one = act.a;
    e.sweep_act = !is_clamp(act) && !e.sloped;
    e.act = bounds_of(act);
    e.residual_inside = residual && !e.sweep_act;
    e.residual_after = residual && e.sweep_act;
    const bool post_inside = !e.sweep_act && is_clamp(post);
    e.post = post_inside ? bounds_of(post) : bounds_of(Activation{});
    e.sweep_post = !post_inside && post.kind != Act::none;
    return e;
}

static bool unfinished(const Epilogue& e) { return e.sweep_act || e.residual_after || e.sweep_post; }

FF_INLINE vf clamp(vf x, const Bounds& bounds) { return at_most(at_least(x, set1(bounds.low)), set1(bounds.high)); }

FF_INLINE vf slope_down(vf x, vf slope) { return activate<Act::prelu>(x, slope, slope); }

// The rest of the epilogue over `rows` rows of n floats.
static void finish(const Epilogue& e, float* out, int64_t out_stride, const float* residual, int64_t residual_stride,
                   int64_t rows, int64_t n) {
    if (out_stride == n && (!e.residual_after || residual_stride == n)) {
        n *= rows;
        rows = 1;
    }
    for (int64_t m = 0; m < rows; ++m) {
        float* row = out + m * out_stride;
        if (e.sweep_act) sweep(e.act_kind, row, n);
        if (e.residual_after) {
            const float* other = residual + m * residual_stride;
            int64_t i = 0;
            for (; i + kLanes <= n; i += kLanes) store(row + i, add(load(row + i), load(other + i)));
            if (i < n) store_n(row + i, add(load_n(row + i, n - i), load_n(other + i, n - i)), n - i);
        }
        if (e.sweep_post) sweep(e.post_kind, row, n);
    }
}

}  // namespace ff::FF_ISA
