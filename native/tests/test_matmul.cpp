// Products of two activations against loops in double, over batches, strides and transposes.
#include "check.hpp"
#include "sets.hpp"

using namespace ff;

int main() {
    check::Random random(2);
    for (int i = 0; i < 120; ++i) {
        const int64_t outer = random.between(1, 3), inner = random.between(1, 3);
        const int64_t m = random.between(1, 70), n = random.between(1, 70), k = random.between(1, 50);
        const bool a_turned = random.between(0, 1), b_turned = random.between(0, 1), out_turned = random.between(0, 2) == 0;
        const bool shared = random.between(0, 1);  // one B for all of the outer batch
        check::Aligned a(random.floats(outer * inner * m * k)), b(random.floats(outer * inner * k * n));
        const float alpha = random.uniform(0.1f, 2.0f);
        for (const Kernels* kernels : check::instruction_sets()) {
            check::Aligned out(std::vector<float>(outer * inner * m * n, -7.0f));
            MatmulArgs args;
            args.alpha = alpha;
            args.a = {a.get(), 4, {outer, inner, m, k}, {inner * m * k, m * k, a_turned ? 1 : k, a_turned ? m : 1}};
            args.b = {b.get(), 4, {outer, inner, k, n}, {shared ? 0 : inner * k * n, k * n, b_turned ? 1 : n, b_turned ? k : 1}};
            args.out = {out.get(), 4, {outer, inner, m, n}, {inner * m * n, m * n, out_turned ? 1 : n, out_turned ? m : 1}};
            void* scratch = std::aligned_alloc(64, (kernels->matmul_scratch(args) / 64 + 1) * 64);
            const int64_t units = outer * inner * m, cut = random.between(0, units);
            kernels->matmul(args, {0, cut}, scratch);
            kernels->matmul(args, {cut, units}, scratch);
            std::free(scratch);
            for (int64_t o = 0; o < outer; ++o)
                for (int64_t q = 0; q < inner; ++q)
                    for (int64_t row = 0; row < m; ++row)
                        for (int64_t column = 0; column < n; ++column) {
                            double sum = 0;
                            for (int64_t j = 0; j < k; ++j)
                                sum += static_cast<double>(a[o * args.a.stride[0] + q * m * k + row * args.a.stride[2] + j * args.a.stride[3]]) *
                                       b[o * args.b.stride[0] + q * k * n + j * args.b.stride[2] + column * args.b.stride[3]];
                            const float value = out[o * inner * m * n + q * m * n + row * args.out.stride[2] + column * args.out.stride[3]];
                            CHECK(check::close(value, alpha * sum, 1e-5), "%s: %g for %g", kernels->name, value, alpha * sum);
                        }
        }
    }
    return check::result();
}
