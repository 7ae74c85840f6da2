#include "schedule.hpp"

#include <algorithm>

#include "operators/operator.hpp"

namespace ff {
namespace {

// Nanoseconds below which a node is not shared: meeting the other threads costs what they save. An estimate. No
// comparison with other values is recorded.
constexpr double kWorthSharingNs = 2000;

// A thread's share of a node is cut into at most so many pieces, each of this time or more, that together cost at
// most so much more. Estimates.
constexpr int kMostPieces = 4;
constexpr double kLeastPieceNs = 20000, kMostPiecesCost = 1.03;

// Into how many parts each of a node's two extents is cut, and at multiples of what.
struct Cut {
    int first = 1, second = 1;
    Steps steps;
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

// Nanoseconds of the slowest thread.
double nanoseconds(const Node& node, const Core& core, const Cut& cut) {
    const Part all = whole(node);
    const double first = static_cast<double>(largest(all.first.end, cut.steps.first, cut.first));
    const double second = static_cast<double>(largest(all.second.end, cut.steps.second, cut.second));
    return operator_of(node.op).nanoseconds(node, core, first, second);
}

Cut best_cut(const Node& node, const Kernels& kernels, int threads) {
    const Core core{static_cast<double>(kernels.vector_bytes)};
    Cut best;
    best.steps = operator_of(node.op).steps(node, kernels);
    double least = nanoseconds(node, core, best);
    if (node.op != Op::strip && least < kWorthSharingNs) return best;
    const bool has_second = whole(node).second.end > 0;
    for (int first = 1; first <= threads; ++first) {
        Cut cut = best;
        cut.first = first;
        cut.second = has_second ? threads / first : 1;
        const double time = nanoseconds(node, core, cut);
        if (time >= least) continue;
        least = time;
        best = cut;
    }
    return best;
}

double cost(const Node& node, const Core& core) {
    double sum = 0;
    for (const Node& inner : node.nodes) sum += cost(inner, core);
    const Part all = whole(node);
    return node.op == Op::strip ? sum
                                : operator_of(node.op).nanoseconds(node, core, static_cast<double>(all.first.end),
                                                                   static_cast<double>(all.second.end));
}

// How many parts of a thread's share are worth their calls: a thread that comes late, or is slower, then leaves less to
// wait for. A strip computes rows twice where its parts meet, and is not cut further.
int pieces(const Node& node, const Core& core, const Cut& cut) {
    if (node.op == Op::strip || winograd_tile(node) || cut.first * cut.second == 1) return 1;
    const Part all = whole(node);
    const int64_t first = largest(all.first.end, cut.steps.first, cut.first);
    const double second = static_cast<double>(largest(all.second.end, cut.steps.second, cut.second));
    const auto time = [&](int parts) {
        return operator_of(node.op).nanoseconds(
            node, core, static_cast<double>(largest(first, cut.steps.first, parts)), second);
    };
    int most = kMostPieces;
    while (most > 1 && (time(most) < kLeastPieceNs || most * time(most) > kMostPiecesCost * time(1))) --most;
    return most;
}

}  // namespace

std::vector<Turn> schedule(const Plan& plan, const Kernels& kernels, int threads) {
    const Core core{static_cast<double>(kernels.vector_bytes)};
    std::vector<Turn> turns(plan.nodes.size());
    for (size_t i = 0; i < turns.size(); ++i) {
        const Node& node = plan.nodes[i];
        const Part all = whole(node);
        const Cut cut = best_cut(node, kernels, threads);
        turns[i].each = pieces(node, core, cut);
        for (int t = 0; t < cut.first * cut.second; ++t) {
            const Range first = share(all.first.end, cut.steps.first, cut.first, t % cut.first);
            const Range second = share(all.second.end, cut.steps.second, cut.second, t / cut.first);
            for (int piece = 0; piece < turns[i].each; ++piece) {
                const Range rows = share(first.end - first.begin, cut.steps.first, turns[i].each, piece);
                turns[i].parts.push_back({{first.begin + rows.begin, first.begin + rows.end}, second});
            }
        }
        turns[i].cost = cost(node, core);
    }
    return turns;
}

}  // namespace ff
