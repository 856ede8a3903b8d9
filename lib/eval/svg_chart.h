// SPDX-License-Identifier: Apache-2.0
// Charts as inline SVG text: no scripts, no external resources, readable at 320 px. Values under
// the pointer come from <title> elements.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace plural::eval {

/// &, <, >, " escaped, for text and attributes of HTML and SVG.
std::string html_escape(std::string_view text);

struct Series {
  std::string name;                               ///< "" = not in the legend
  int color = 0;                                  ///< index into the palette of the page (CSS classes c0..c5)
  std::vector<std::pair<double, double>> points;  ///< non-finite y are gaps
  bool faint = false;                             ///< thin, light line: raw values behind a smoothed line
  bool dashed = false;
  bool markers = false;
  /// (low, high) of each point, drawn as a whisker; empty = none.
  std::vector<std::pair<double, double>> intervals = {};
};

struct ChartOptions {
  std::string title;
  std::string x_label;
  std::optional<double> y_min;  ///< fixed lower end of the axis; otherwise from the data
  bool integer_x = true;
};

/// Lines over a shared x axis, with a legend when more than one series has a name.
std::string line_chart(const std::vector<Series>& series, const ChartOptions& options);

struct ReliabilityBar {
  double low = 0, high = 1;
  double count = 0;
  double confidence = 0;                       ///< mean stated confidence of the bin
  double accuracy = 0;                         ///< share of correct answers in the bin
  double accuracy_low = 0, accuracy_high = 1;  ///< its interval
};

/// Stated confidence against the share that was correct, with its intervals; the diagonal is perfect calibration. The
/// histogram below shows how many answers fall in each bin, and how many of them are correct.
std::string reliability_diagram(const std::string& title, const std::vector<ReliabilityBar>& bins,
                                const std::string& note, int color);

/// Round steps for an axis from `low` to `high`, about `count` of them.
std::vector<double> axis_ticks(double low, double high, int count);

/// A running mean over `window` values centred on each point; gaps stay gaps.
std::vector<std::pair<double, double>> running_mean(const std::vector<std::pair<double, double>>& points,
                                                    size_t window);

}  // namespace plural::eval
