// The reference kernels: what networks rarely do, in plain code, one for all instruction sets. They walk views of any
// rank and stride, of float32 and int32 elements. docs/engine.md, section "The plan", says what each computes.
#pragma once

#include "kernels/kernels.hpp"

namespace ff {

// What the four bytes of an element are. A bool is an int32 of 0 or 1.
#define FF_TYPES(X) X(f32) X(i32)
enum class Type : int32_t { FF_TYPES(FF_ENUMERATOR) };

// What a kernel found in its numbers and has no answer for. The run goes on with zeros, and fails at its end.
struct Fault {
    enum class Kind : int32_t { none, index, division };
    Kind kind = Kind::none;
    int64_t index = 0, size = 0;  // index: the number, and the size of the dimension that it is outside of

    void outside(int64_t number, int64_t dimension) { *this = {Kind::index, number, dimension}; }
    void by_zero() { *this = {Kind::division, 0, 0}; }
};

// What types an operation takes and gives. `any`: one type, which it gives too. `test`: any one type, gives int32.
// `real` and `whole`: float32 or int32 alone. `real_test`, `to_f32`, `to_i32`: from one to the other. `where`: a is an
// int32, b and c are of one type, which it gives.
enum class Signature : int32_t { any, test, real, whole, real_test, to_f32, to_i32, where };

// Name, number of operands, signature. Comparisons and logical operations give 0 or 1; NaN is not 0.
#define FF_ELEMENTWISE(X)                                                                                             \
    X(abs, 1, any) X(neg, 1, any) X(sign, 1, any)                                                                     \
    X(trunc, 1, real) X(floor, 1, real) X(ceil, 1, real) X(round, 1, real)                                            \
    X(sin, 1, real) X(cos, 1, real) X(tan, 1, real) X(asin, 1, real) X(acos, 1, real) X(atan, 1, real)                \
    X(sinh, 1, real) X(cosh, 1, real) X(asinh, 1, real) X(acosh, 1, real) X(atanh, 1, real)                           \
    X(exp2, 1, real) X(expm1, 1, real) X(log2, 1, real) X(log10, 1, real) X(log1p, 1, real) X(erfc, 1, real)          \
    X(isnan, 1, real_test) X(isinf, 1, real_test) X(signbit, 1, real_test)                                            \
    X(logical_not, 1, test) X(bitwise_not, 1, whole) X(to_f32, 1, to_f32) X(to_i32, 1, to_i32)                        \
    X(add, 2, any) X(sub, 2, any) X(mul, 2, any) X(max, 2, any) X(min, 2, any) X(pow, 2, any)                         \
    X(floor_divide, 2, any) X(trunc_divide, 2, any) X(remainder, 2, any) X(fmod, 2, any)                              \
    X(atan2, 2, real) X(hypot, 2, real) X(copysign, 2, real) X(fmax, 2, real) X(fmin, 2, real) X(logaddexp, 2, real)  \
    X(eq, 2, test) X(ne, 2, test) X(lt, 2, test) X(le, 2, test) X(gt, 2, test) X(ge, 2, test)                         \
    X(logical_and, 2, test) X(logical_or, 2, test) X(logical_xor, 2, test)                                            \
    X(bitwise_and, 2, whole) X(bitwise_or, 2, whole) X(bitwise_xor, 2, whole)                                         \
    X(shift_left, 2, whole) X(shift_right, 2, whole)                                                                  \
    X(where, 3, where)
enum class Elementwise : int32_t { FF_ELEMENTWISE(FF_ENUMERATOR) };
int operands_of(Elementwise op);
Signature signature_of(Elementwise op);

// Operands of one shape, broadcast by stride 0, as many as the operation has.
struct ElementwiseArgs {
    ConstStrided a, b, c;
    Strided out;
    Elementwise op = Elementwise::add;
    Type type = Type::f32;  // of b if the operation is `where`, else of a
    Fault* fault = nullptr;
};

// Over the last `trailing` dimensions; out has the others. any, all, argmax, argmin give int32, logsumexp and norms
// float32 of float32, the others x's type. argmax and argmin count over all trailing dimensions together and give the
// first of equal elements; NaN is larger and smaller than any other. Sums of float32 are made in float64.
#define FF_AGGREGATES(X) X(sum) X(prod) X(max) X(min) X(any) X(all) X(argmax) X(argmin) X(logsumexp)
enum class Aggregate : int32_t { FF_AGGREGATES(FF_ENUMERATOR) };
struct AggregateArgs {
    ConstStrided x;
    Strided out;
    int32_t trailing = 1;
    Aggregate op = Aggregate::sum;
    Type type = Type::f32;
};

// Along the last dimension: each element together with those before it. max_index and min_index give the place of the
// last of equal elements, as int32.
#define FF_SCANS(X) X(sum) X(prod) X(max) X(min) X(max_index) X(min_index) X(logsumexp)
enum class Scan : int32_t { FF_SCANS(FF_ENUMERATOR) };
struct ScanArgs {
    ConstStrided x;
    Strided out;
    Scan op = Scan::sum;
    Type type = Type::f32;
};

// out[..., i] is the place along x's last dimension of its i-th element in order; equal ones keep their order, NaN is
// larger than any other. out may be shorter than x.
struct SortArgs {
    ConstStrided x;
    Strided out;  // int32
    int32_t descending = 0;
    Type type = Type::f32;
};

// out[..., i] = x[..., index[..., i]]; the leading dimensions are out's in all three. An index below 0 counts from the
// end if `negative`.
struct TakeArgs {
    ConstStrided x, index;
    Strided out;
    int32_t negative = 0;
    Fault* fault = nullptr;
};

// out = x, then out[..., index[..., i]] = or += ... source[..., i], in the order of i.
#define FF_SCATTERS(X) X(set) X(add) X(mul) X(max) X(min)
enum class Scatter : int32_t { FF_SCATTERS(FF_ENUMERATOR) };
struct ScatterArgs {
    ConstStrided x, index, source;
    Strided out;
    Scatter op = Scatter::set;
    Type type = Type::f32;
    int32_t negative = 0;
    Fault* fault = nullptr;
};

// `elements` are elements of out, `units` are indices of out's leading dimensions: all of aggregate, all but the last
// of scan, sort, take and scatter.
namespace reference {
void elementwise(const ElementwiseArgs& args, Range elements);
void aggregate(const AggregateArgs& args, Range units);
void scan(const ScanArgs& args, Range units);
size_t sort_scratch(const SortArgs& args);
void sort(const SortArgs& args, Range units, void* scratch);
void take(const TakeArgs& args, Range units);
void scatter(const ScatterArgs& args, Range units);
}  // namespace reference

}  // namespace ff
