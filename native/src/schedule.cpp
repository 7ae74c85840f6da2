#include "schedule.hpp"

#include <algorithm>

namespace ff {
namespace {

// What a core does in a nanosecond, roughly: parts are compared by it, and nothing else hangs on it.
constexpr double kBytesPerNs = 15;        // from a shared cache
constexpr double kStepNs = 100;           // a call and its tails
constexpr double kWorthSharingNs = 2000;  // below, meeting the others costs what they save

// Into how many parts each of a node's two extents is cut, and at multiples of what.
struct Cut {
    int first = 1, second = 1;
    int64_t first_step = 1, second_step = 1;
};

Range share(int64_t size, int64_t step, int parts, int index) {
    const int64_t steps = (size + step - 1) / step;
    return {std::min(size, steps * index / parts * step), std::min(size, steps * (index + 1) / parts * step)};
}

// The largest part, in whole steps.
int64_t largest(int64_t size, int64_t step, int parts) {
    const int64_t steps = (size + step - 1) / step;
    return (steps + parts - 1) / parts * step;
}

class Cost {
public:
    explicit Cost(const Kernels& kernels) : flops_per_ns_(kernels.vector_bytes), wide_(kernels.vector_bytes >= 64) {}

    // Nanoseconds of the slowest thread under this cut.
    double operator()(const Node& node, const Cut& cut) const {
        const Part all = whole(node);
        const double first = static_cast<double>(largest(all.first.end, cut.first_step, cut.first));
        const double second = static_cast<double>(largest(all.second.end, cut.second_step, cut.second));
        const View &x = node.in[kX], &out = node.out;
        const double window = static_cast<double>(node.window.kernel_h) * node.window.kernel_w;
        switch (node.op) {
            case Op::conv: {
                const double tile = node.winograd;
                const double taps = tile ? (tile + 2) * (tile + 2) : window;  // that weights are read of
                const double share = tile ? taps / (tile * tile * window) : 1;  // of the multiplications
                const double depth = window * static_cast<double>(x.channels() / node.groups);
                const double pixels = std::min(first, static_cast<double>(all.first.end));
                const double read = 4 * (second * kPanel * depth * taps / window + pixels / static_cast<double>(all.first.end) *
                                                                       static_cast<double>(x.elements()));
                return kStepNs + 2 * first * second * kPanel * depth * share / flops_per_ns_ + read / kBytesPerNs;
            }
            case Op::depthwise:
            case Op::pool: {
                // Rows that two threads read count as a tenth of a row computed.
                const double rows = first + 0.1 * (node.window.kernel_h - 1);
                return kStepNs + rows * second * static_cast<double>(out.width()) * kPanel *
                                     (2 * window / flops_per_ns_ + 4 / kBytesPerNs);
            }
            case Op::matmul: {
                const double depth = static_cast<double>(node.in[kA].shape[out.rank - 1]),
                             columns = static_cast<double>(out.shape[out.rank - 1]);
                return kStepNs + first * columns * (2 * depth / flops_per_ns_ + 4 / kBytesPerNs);
            }
            case Op::reduce: return kStepNs + 4 * per_unit(x, all) * first / kBytesPerNs;
            default:
                return kStepNs + 12 * per_unit(out, all) * first / kBytesPerNs;  // a read, a write, some arithmetic
        }
    }

    void set_steps(const Node& node, Cut& cut) const {
        if (node.op == Op::strip) {
            for (const Node& inner : node.nodes)
                cut.first_step = std::max<int64_t>(cut.first_step, inner.winograd);  // 2 or 4: multiples
        } else if (node.op == Op::conv) {
            // Whole tiles, of Winograd or of the registers.
            cut.first_step = node.winograd ? node.winograd * node.out.width() : wide_ ? 14 : 6;
            cut.second_step = wide_ ? 2 : 1;
        } else if (node.op == Op::matmul) {
            // Whole matrices where there are enough: each is packed once then.
            const int64_t rows = node.out.shape[node.out.rank - 2];
            cut.first_step = node.out.elements() / (rows * node.out.shape[node.out.rank - 1]) > 1 ? rows : 4;
        }
    }

private:
    static double per_unit(const View& view, const Part& all) {
        return static_cast<double>(view.elements()) / static_cast<double>(std::max<int64_t>(all.first.end, 1));
    }

    const double flops_per_ns_;
    const bool wide_;  // AVX-512
};

bool has_second(const Node& node) { return node.op == Op::conv || node.op == Op::depthwise || node.op == Op::pool; }

Cut best_cut(const Node& node, const Cost& cost, int threads) {
    Cut best;
    cost.set_steps(node, best);
    double least = cost(node, best);
    if (node.op != Op::strip && least < kWorthSharingNs) return best;
    for (int first = 1; first <= threads; ++first) {
        Cut cut = best;
        cut.first = first;
        cut.second = has_second(node) ? threads / first : 1;
        const double time = cost(node, cut);
        if (time >= least) continue;
        least = time;
        best = cut;
    }
    return best;
}

}  // namespace

std::vector<Turn> schedule(const Plan& plan, const Kernels& kernels, int threads) {
    const Cost cost(kernels);
    std::vector<Turn> turns(plan.nodes.size());
    std::vector<bool> shared(plan.nodes.size());
    for (size_t i = 0; i < turns.size(); ++i) {
        const Node& node = plan.nodes[i];
        const Part all = whole(node);
        const Cut cut = best_cut(node, cost, threads);
        shared[i] = cut.first * cut.second > 1;
        turns[i].parts.resize(static_cast<size_t>(threads));
        for (int t = 0; t < cut.first * cut.second; ++t)
            turns[i].parts[static_cast<size_t>(t)] = {
                share(all.first.end, cut.first_step, cut.first, t % cut.first),
                share(all.second.end, cut.second_step, cut.second, t / cut.first)};
    }
    for (size_t i = 0; i < turns.size(); ++i) turns[i].meet = shared[i] || (i + 1 < turns.size() && shared[i + 1]);
    return turns;
}

}  // namespace ff
