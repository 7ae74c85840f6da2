// The product that convolutions and attention are made of: rows of A (row-major, any stride) times packed panels of B.
//
// C[m, n] = epilogue(bias[n] + sum_k A[m, k] * B[k, n]),  B in panels [K][16]
//
// A tile of rows x panels of sums stays in registers over the whole of K. Each step loads the panels'
// vectors once and broadcasts one number for each row. Every sum is one chain over k in order, so a result
// does not depend on the tile that it was computed in.
#pragma once

#include "kernels.hpp"

#ifdef FF_LIGHT  // builds under sanitizers, which take minutes over unrolled tiles
#define FF_UNROLL
#else
#define FF_UNROLL _Pragma("GCC unroll 32")
#endif

namespace ff::FF_ISA {

constexpr int kVectors = kPanel / kLanes;  // vectors in a panel

// Rows that fit beside `panels` panels: sums + the panels' vectors + one broadcast within the registers.
constexpr int tile_rows(int panels) { return kTileRows[panels - 1]; }
constexpr int kMaxPanels = sizeof kTileRows / sizeof *kTileRows;
constexpr int kMaxRows = 14;  // of any instruction set's tile: kTiles has a place for each height
static_assert(kTileRows[0] <= kMaxRows, "kTiles has no place for the tallest tile");
static_assert(kMaxPanels == 1 || kMaxPanels == 4, "panels_next() knows tiles of one panel, or of 1 to 4");

struct Tile {
    const float* a;
    int64_t a_stride;         // floats from row to row
    const int64_t* segments;  // a row of A is `segment_count` stretches of k floats, at a + segments[i]
    int64_t segment_count;
    int64_t k;
    const float* b;
    int64_t panel_stride;     // floats from panel to panel
    float* c;
    int64_t c_stride;
    const float* bias;      // of the first panel, or nullptr
    const float* slope;     // like bias: sums below 0 are multiplied by it; or nullptr
    int64_t slope_step;     // floats from panel to panel
    const float* residual;  // like c, or nullptr
    int64_t residual_stride;
    int64_t last;           // how many channels the last panel has, 1 to 16
    Bounds act, post;
    const char* ahead;   // what is fetched into L2 meanwhile, a line of 64 bytes at each step of k
    int64_t ahead_step;  // 64, or 0 if there is nothing to fetch
};

FF_INLINE int64_t lanes_left(int64_t last, int vector) {
    const int64_t n = last - static_cast<int64_t>(vector) * kLanes;
    return n < 0 ? 0 : n < kLanes ? n : kLanes;
}

template <int rows, int panels>
static void tile(const Tile& t) {
    constexpr int vectors = panels * kVectors;
    vf sums[rows][vectors];
    FF_UNROLL for (int v = 0; v < vectors; ++v) {
        const vf start = t.bias ? load(t.bias + v * kLanes) : zero();
        FF_UNROLL for (int m = 0; m < rows; ++m) sums[m][v] = start;
    }

    // Row m is at base[m / 5] + (m % 5) strides: three pointers and two strides address 14 rows. The
    // empty assembly keeps the compiler from making a pointer of each row, which it would spill.
    int64_t one = t.a_stride * static_cast<int64_t>(sizeof(float)), three = 3 * one;
    const char* ahead = t.ahead;
    const int64_t ahead_step = t.ahead_step;
    const float* b[panels];
    FF_UNROLL for (int p = 0; p < panels; ++p) b[p] = t.b + p * t.panel_stride;
    for (int64_t s = 0; s < t.segment_count; ++s) {
        const char* base0 = reinterpret_cast<const char*>(t.a + t.segments[s]);
        const char* base1 = base0 + (rows > 5 ? 5 * one : 0);
        const char* base2 = base0 + (rows > 10 ? 10 * one : 0);
        for (int64_t k = t.k; k > 0; --k) {
            __builtin_prefetch(ahead, 0, 2);
            ahead += ahead_step;
            vf right[vectors];
            FF_UNROLL for (int v = 0; v < vectors; ++v) right[v] = load(b[v / kVectors] + v % kVectors * kLanes);
            FF_UNROLL for (int m = 0; m < rows; ++m) {
                const char* base = m < 5 ? base0 : m < 10 ? base1 : base2;
                const int64_t step =
                    m % 5 == 0 ? 0 : m % 5 == 1 ? one : m % 5 == 2 ? 2 * one : m % 5 == 3 ? three : 4 * one;
                const vf left = set1(*reinterpret_cast<const float*>(base + step));
                FF_UNROLL for (int v = 0; v < vectors; ++v) sums[m][v] = fma(left, right[v], sums[m][v]);
            }
            FF_UNROLL for (int p = 0; p < panels; ++p) b[p] += kPanel;
            base0 += sizeof(float);
            base1 += sizeof(float);
            base2 += sizeof(float);
            __asm__("" : "+r"(base0), "+r"(base1), "+r"(base2), "+r"(one), "+r"(three));
        }
    }

    if (t.act.active) {
        FF_UNROLL for (int m = 0; m < rows; ++m)
            FF_UNROLL for (int v = 0; v < vectors; ++v) sums[m][v] = clamp(sums[m][v], t.act);
    }
    if (t.slope) {
        FF_UNROLL for (int v = 0; v < vectors; ++v) {
            const vf slope = load(t.slope + v / kVectors * t.slope_step + v % kVectors * kLanes);
            FF_UNROLL for (int m = 0; m < rows; ++m) sums[m][v] = slope_down(sums[m][v], slope);
        }
    }
    constexpr int whole = (panels - 1) * kVectors;  // vectors of panels that are surely full
    const bool full = t.last == kPanel;
    if (t.residual) {
        FF_UNROLL for (int m = 0; m < rows; ++m) {
            const float* row = t.residual + m * t.residual_stride;
            FF_UNROLL for (int v = 0; v < vectors; ++v) {
                const vf other = v < whole || full ? load(row + v * kLanes)
                                                   : load_n(row + v * kLanes, lanes_left(t.last, v - whole));
                sums[m][v] = add(sums[m][v], other);
            }
        }
    }
    if (t.post.active) {
        FF_UNROLL for (int m = 0; m < rows; ++m)
            FF_UNROLL for (int v = 0; v < vectors; ++v) sums[m][v] = clamp(sums[m][v], t.post);
    }
    if (full) {
        FF_UNROLL for (int m = 0; m < rows; ++m)
            FF_UNROLL for (int v = 0; v < vectors; ++v) store(t.c + m * t.c_stride + v * kLanes, sums[m][v]);
    } else {
        FF_UNROLL for (int m = 0; m < rows; ++m) {
            FF_UNROLL for (int v = 0; v < vectors; ++v) {
                float* to = t.c + m * t.c_stride + v * kLanes;
                if (v < whole) store(to, sums[m][v]);
                else store_n(to, sums[m][v], lanes_left(t.last, v - whole));
            }
        }
    }
}

using TileFunction = void (*)(const Tile&);

template <int panels, int rows>
static constexpr TileFunction tile_or_null() {
    if constexpr (panels <= kMaxPanels && rows <= tile_rows(panels)) return tile<rows, panels>;
    else return nullptr;
}

#define FF_TILES(p)                                                                                        \
    {                                                                                                      \
        tile_or_null<p, 1>(), tile_or_null<p, 2>(), tile_or_null<p, 3>(), tile_or_null<p, 4>(),            \
        tile_or_null<p, 5>(), tile_or_null<p, 6>(), tile_or_null<p, 7>(), tile_or_null<p, 8>(),            \
        tile_or_null<p, 9>(), tile_or_null<p, 10>(), tile_or_null<p, 11>(), tile_or_null<p, 12>(),         \
        tile_or_null<p, 13>(), tile_or_null<p, 14>()                                                       \
    }
static constexpr TileFunction kTiles[4][kMaxRows] = {FF_TILES(1), FF_TILES(2), FF_TILES(3), FF_TILES(4)};
#undef FF_TILES

// How many of the `left` panels to take next: threes, as long as no single panel is left over.
FF_INLINE int panels_next(int64_t left) {
    if (kMaxPanels == 1) return 1;
    if (left <= 4) return static_cast<int>(left);
    return left % 3 == 1 ? 4 : left % 3 == 2 ? 2 : 3;
}

// Rows that lie one stride apart in A, in C and in the residual.
struct Run {
    const float* a;
    float* c;
    const float* residual;  // or nullptr
    int64_t rows;
};

// Weights that are read after these.
struct Ahead {
    const float* data = nullptr;
    int64_t floats = 0;
};

// All runs times `panels` panels. Every group of panels passes over all rows, so that the group's weights stay in L1
// and A in L2. `t` describes the first panel, but its `last` is that of the last panel.
//
// Weights that no run has touched lie in L3 or in memory, and the processor's own prefetchers see each panel too
// late. So the tiles of a group fetch the next group's weights, and those of the last group fetch `ahead`.
static void multiply_runs(Tile t, const Run* runs, int64_t count, int64_t panels, const Ahead& ahead) {
    const int64_t last = t.last;
    const int64_t depth = t.segment_count * t.k;
    for (int64_t p = 0; p < panels;) {
        const int wide = panels_next(panels - p);
        const int most = tile_rows(wide);
        const bool final = p + wide == panels;
        t.last = final ? last : kPanel;
        const float* next = final ? ahead.data : t.b + wide * t.panel_stride;
        int64_t lines = (final ? ahead.floats : panels_next(panels - p - wide) * t.panel_stride) / 16;
        for (int64_t r = 0; r < count; ++r) {
            const Run& run = runs[r];
            int64_t m = 0;
            for (int64_t tiles = (run.rows + most - 1) / most; tiles > 0; --tiles) {  // heights differ by one at most
                const int64_t height = (run.rows - m + tiles - 1) / tiles;
                t.a = run.a + m * t.a_stride;
                t.c = run.c + m * t.c_stride + p * kPanel;
                t.residual = run.residual ? run.residual + m * t.residual_stride + p * kPanel : nullptr;
                t.ahead_step = lines > 0 ? 64 : 0;
                t.ahead = reinterpret_cast<const char*>(lines > 0 ? next : t.b);
                lines -= depth;
                next += depth * 16;
                kTiles[wide - 1][height - 1](t);
                m += height;
            }
        }
        t.b += wide * t.panel_stride;
        if (t.bias) t.bias += wide * kPanel;
        if (t.slope) t.slope += wide * t.slope_step;
        p += wide;
    }
}

// One row times panels. Four sums for each vector hide the latency that a tile of one row would show. The order of
// summation differs from that of tile(), so this is for products that have one row in all, and one segment.
template <int panels>
static void single_row_tile(const Tile& t) {
    constexpr int vectors = panels * kVectors, chains = 4;
    vf sums[chains][vectors];
    FF_UNROLL for (int v = 0; v < vectors; ++v) {
        sums[0][v] = t.bias ? load(t.bias + v * kLanes) : zero();
        FF_UNROLL for (int i = 1; i < chains; ++i) sums[i][v] = zero();
    }
    const float* b[panels];
    FF_UNROLL for (int p = 0; p < panels; ++p) b[p] = t.b + p * t.panel_stride;
    int64_t k = 0;
    for (; k + chains <= t.k; k += chains) {
        FF_UNROLL for (int i = 0; i < chains; ++i) {
            const vf left = set1(t.a[k + i]);
            FF_UNROLL for (int v = 0; v < vectors; ++v)
                sums[i][v] = fma(left, load(b[v / kVectors] + (k + i) * kPanel + v % kVectors * kLanes), sums[i][v]);
        }
    }
    for (; k < t.k; ++k) {
        FF_UNROLL for (int v = 0; v < vectors; ++v)
            sums[0][v] = fma(set1(t.a[k]), load(b[v / kVectors] + k * kPanel + v % kVectors * kLanes), sums[0][v]);
    }
    FF_UNROLL for (int v = 0; v < vectors; ++v) {
        const int64_t n = v < (panels - 1) * kVectors ? kLanes : lanes_left(t.last, v - (panels - 1) * kVectors);
        vf sum = add(add(sums[0][v], sums[1][v]), add(sums[2][v], sums[3][v]));
        if (t.act.active) sum = clamp(sum, t.act);
        if (t.slope) sum = slope_down(sum, load(t.slope + v / kVectors * t.slope_step + v % kVectors * kLanes));
        if (t.residual) sum = add(sum, load_n(t.residual + v * kLanes, n));
        if (t.post.active) sum = clamp(sum, t.post);
        store_n(t.c + v * kLanes, sum, n);
    }
}

static void single_row(Tile t, const Run& row, int64_t panels) {
    const int64_t last = t.last;
    t.a = row.a;
    t.c = row.c;
    t.residual = row.residual;
    constexpr int wide = kMaxPanels;
    for (int64_t p = 0; p < panels;) {
        const int count = panels - p >= wide ? wide : 1;
        t.last = p + count == panels ? last : kPanel;
        if (count == wide) single_row_tile<wide>(t);
        else single_row_tile<1>(t);
        t.b += count * t.panel_stride;
        t.c += count * kPanel;
        if (t.bias) t.bias += count * kPanel;
        if (t.slope) t.slope += count * t.slope_step;
        if (t.residual) t.residual += count * kPanel;
        p += count;
    }
}

}  // namespace ff::FF_ISA
