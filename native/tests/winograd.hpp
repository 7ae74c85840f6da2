// Weights for Winograd's tiles, made the plain way.
#pragma once

#include <cmath>
#include <vector>

namespace check {

// A packed weight of a dense 3 x 3 convolution, [panels][9 * channels][16], as [n * n][panels][channels][16].
inline std::vector<float> transformed(const float* weight, int64_t panels, int64_t channels, int tile) {
    const double r = std::sqrt(2.0);
    const double filters[2][6][3] = {
        {{1, 0, 0}, {0.5, 0.5, 0.5}, {0.5, -0.5, 0.5}, {0, 0, 1}, {}, {}},
        {{1, 0, 0}, {-2 / 3., -r / 3, -1 / 3.}, {-2 / 3., r / 3, -1 / 3.}, {1 / 6., r / 6, 1 / 3.},
         {1 / 6., -r / 6, 1 / 3.}, {0, 0, 1}}};
    const auto& g = filters[tile == 4];
    const int n = tile + 2;
    std::vector<float> result;
    for (int i = 0; i < n; ++i)
        for (int j = 0; j < n; ++j)
            for (int64_t panel = 0; panel < panels; ++panel)
                for (int64_t c = 0; c < channels; ++c)
                    for (int lane = 0; lane < 16; ++lane) {
                        double sum = 0;
                        for (int y = 0; y < 3; ++y)
                            for (int x = 0; x < 3; ++x)
                                sum += g[i][y] * g[j][x] * weight[((panel * 9 + y * 3 + x) * channels + c) * 16 + lane];
                        result.push_back(static_cast<float>(sum));
                    }
    return result;
}

}  // namespace check
