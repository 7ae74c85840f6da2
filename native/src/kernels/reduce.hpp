// Sum, mean, maximum and minimum over the last dimensions of a view.
#pragma once

namespace ff::FF_ISA {

template <Reduce op>
FF_INLINE vf join(vf total, vf x) {
    if constexpr (op == Reduce::max) return max_(total, x);
    else if constexpr (op == Reduce::min) return min_(total, x);
    else return add(total, x);
}

template <Reduce op>
FF_INLINE float start() {
    if constexpr (op == Reduce::max) return -__builtin_inff();
    else if constexpr (op == Reduce::min) return __builtin_inff();
    else return 0;
}

template <Reduce op>
FF_INLINE float join_lanes(vf x) {
    if constexpr (op == Reduce::sum || op == Reduce::mean) {
        return sum(x);
    } else {
        alignas(64) float lanes[kLanes];
        store(lanes, x);
        float result = lanes[0];
        for (int i = 1; i < kLanes; ++i) {
            const float v = lanes[i];
            if (v != v || (op == Reduce::max ? v > result : v < result)) result = v;
            if (result != result) break;
        }
        return result;
    }
}

// Numbers are added up in stretches of kStretch, so that rounding errors do not grow with the count. No comparison
// with other lengths is recorded.
constexpr int64_t kStretch = 64;

// Reduces `vectors` vectors of units that lie together in x, the last one of `lanes` units, over all of w.
template <Reduce op, int vectors>
FF_INLINE void reduce_across(const float* data, const Walk& w, int64_t rows, int64_t lanes, float divisor, float* out) {
    const int64_t columns = w.shape[w.rank - 1], step = w.stride[0][w.rank - 1];
    vf total[vectors], part[vectors];
    for (int j = 0; j < vectors; ++j) total[j] = part[j] = set1(start<op>());
    int64_t in_part = 0;
    for (int64_t row = 0; row < rows; ++row) {
        const float* x = data + offset_of(w, 0, w.rank - 1, row);
        for (int64_t i = 0; i < columns; ++i, x += step) {
            for (int j = 0; j < vectors - 1; ++j) part[j] = join<op>(part[j], load(x + j * kLanes));
            const float* last = x + (vectors - 1) * kLanes;
            part[vectors - 1] = join<op>(part[vectors - 1], lanes == kLanes ? load(last) : load_n(last, lanes));
            if (++in_part < kStretch) continue;
            for (int j = 0; j < vectors; ++j) {
                total[j] = join<op>(total[j], part[j]);
                part[j] = set1(start<op>());
            }
            in_part = 0;
        }
    }
    for (int j = 0; j < vectors; ++j) {
        vf v = join<op>(total[j], part[j]);
        if (op == Reduce::mean) v = div(v, set1(divisor));
        store_n(out + j * kLanes, v, j < vectors - 1 ? kLanes : lanes);
    }
}

// One unit; its rows lie together, or are gathered into chunks that do.
template <Reduce op>
static float reduce_along(const float* data, const Walk& w, int64_t rows, int64_t count) {
    const int64_t columns = w.shape[w.rank - 1], step = w.stride[0][w.rank - 1];
    double total = start<op>();
    alignas(64) float chunk[kChunk];
    for (int64_t row = 0; row < rows; ++row) {
        const float* x = data + offset_of(w, 0, w.rank - 1, row);
        for (int64_t first = 0; first < columns; first += kChunk) {
            const int64_t n = columns - first < kChunk ? columns - first : kChunk;
            const float* p = x + first;
            if (step != 1) {
                gather_strided(x + first * step, step, chunk, n);
                p = chunk;
            }
            vf part[4];
            for (int j = 0; j < 4; ++j) part[j] = set1(start<op>());
            int64_t i = 0;
            for (; i + 4 * kLanes <= n; i += 4 * kLanes) {
                for (int j = 0; j < 4; ++j) part[j] = join<op>(part[j], load(p + i + j * kLanes));
            }
            for (int j = 0; i < n; i += kLanes, ++j) {
                part[j] = join<op>(part[j], load_n_or(p + i, n - i < kLanes ? n - i : kLanes, start<op>()));
            }
            const float stretch = join_lanes<op>(join<op>(join<op>(part[0], part[1]), join<op>(part[2], part[3])));
            if constexpr (op == Reduce::sum || op == Reduce::mean) {
                total += stretch;
            } else if (stretch != stretch || (op == Reduce::max ? stretch > total : stretch < total)) {
                total = total != total ? total : stretch;
            }
        }
    }
    return static_cast<float>(op == Reduce::mean ? total / count : total);
}

template <Reduce op>
static void reduce_as(const ReduceArgs& args, Range units) {
    const int rank = args.x.rank, leading = rank - args.trailing;
    const int64_t* strides[] = {args.x.stride, args.out.stride};
    const Walk lead = walk_over(args.x.shape, strides, 2, 0, leading);
    const Walk w = walk_any_order(args.x.shape, strides, 1, leading, rank);
    int64_t count = 1;
    for (int d = 0; d < w.rank; ++d) count *= w.shape[d];
    const int64_t rows = w.shape[w.rank - 1] ? count / w.shape[w.rank - 1] : 0;
    const bool across = lead.stride[0][lead.rank - 1] == 1 && lead.stride[1][lead.rank - 1] == 1;
    if (!across) {
        for (int64_t unit = units.begin; unit < units.end; ++unit) {
            const float* x = args.x.data + offset_of(lead, 0, lead.rank, unit);
            args.out.data[offset_of(lead, 1, lead.rank, unit)] = reduce_along<op>(x, w, rows, count);
        }
        return;
    }
    for_planes(lead, 2, units.begin, units.end, [&](const int64_t* at, int64_t planes, int64_t channels) {
        for (int64_t plane = 0; plane < planes; ++plane) {
            const float* x = args.x.data + at[0] + plane * row_stride(lead, 0);
            float* out = args.out.data + at[1] + plane * row_stride(lead, 1);
            const float n = static_cast<float>(count);
            int64_t c = 0;
            for (; channels - c > 3 * kLanes; c += 4 * kLanes) {
                const int64_t lanes = channels - c - 3 * kLanes;
                reduce_across<op, 4>(x + c, w, rows, lanes < kLanes ? lanes : kLanes, n, out + c);
            }
            for (; c < channels; c += kLanes) {
                const int64_t lanes = channels - c;
                reduce_across<op, 1>(x + c, w, rows, lanes < kLanes ? lanes : kLanes, n, out + c);
            }
        }
    });
}

static void reduce(const ReduceArgs& args, Range units) {
    switch (args.op) {
        case Reduce::sum: return reduce_as<Reduce::sum>(args, units);
        case Reduce::mean: return reduce_as<Reduce::mean>(args, units);
        case Reduce::max: return reduce_as<Reduce::max>(args, units);
        case Reduce::min: return reduce_as<Reduce::min>(args, units);
    }
}

}  // namespace ff::FF_ISA
