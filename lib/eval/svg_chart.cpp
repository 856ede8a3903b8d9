// SPDX-License-Identifier: Apache-2.0
#include "lib/eval/svg_chart.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "lib/core/format.h"

namespace plural::eval {
namespace {

// Geometry in SVG units; one unit is about one pixel on a phone and in a three-column page.
constexpr double kWidth = 360, kHeight = 220, kLeft = 44, kRight = 12, kTop = 10, kBottom = 34;

/// A linear map from data to SVG units.
struct Scale {
  double low, high, from, to;
  double operator()(double value) const { return from + (value - low) / (high - low) * (to - from); }
};

std::string number(double value) {
  const double size = std::abs(value);
  if (size != 0 && (size >= 1e6 || size < 1e-3)) {  // short, as an axis has little room: 1e-4, not 1.0e-04
    const int exponent = static_cast<int>(std::floor(std::log10(size) + 1e-9));
    return fmt::format("{:.2g}e{}", value / std::pow(10.0, exponent), exponent);
  }
  return fmt::format("{:.4g}", value);
}

/// Ends of an axis around the data; a flat line gets room above and below.
std::pair<double, double> padded_range(double low, double high) {
  if (low > high) return {0, 1};
  if (low == high) {
    const double room = low == 0 ? 1 : std::abs(low) * 0.1;
    return {low - room, high + room};
  }
  const double room = (high - low) * 0.05;
  // An axis of values that are never negative does not dip below zero.
  return {low >= 0 && low - room < 0 ? 0 : low - room, high + room};
}

std::string legend(const std::vector<Series>& series) {
  std::string out;
  int named = 0;
  for (const Series& s : series) {
    if (s.name.empty()) continue;
    ++named;
    out += fmt::format(
        "<span class=\"key\"><svg width=\"22\" height=\"10\" aria-hidden=\"true\"><line x1=\"1\" "
        "y1=\"5\" x2=\"21\" "
        "y2=\"5\" class=\"line c{}{}{}\"/></svg>{}</span>",
        s.color, s.dashed ? " dashed" : "", s.faint ? " faint" : "", html_escape(s.name));
  }
  return named > 1 ? "<div class=\"legend\">" + out + "</div>" : "";
}

std::string polyline(const Series& s, const Scale& x, const Scale& y) {
  std::string out, path;
  const auto close = [&] {
    if (!path.empty()) {
      out += fmt::format("<path class=\"line c{}{}{}\" d=\"{}\"/>", s.color, s.dashed ? " dashed" : "",
                         s.faint ? " faint" : "", path);
    }
    path.clear();
  };
  for (const auto& [px, py] : s.points) {
    if (!std::isfinite(py)) {
      close();
      continue;
    }
    path += fmt::format("{}{:.1f} {:.1f}", path.empty() ? "M" : "L", x(px), y(py));
  }
  close();
  if (s.markers) {
    for (const auto& [px, py] : s.points) {
      if (!std::isfinite(py)) continue;
      out += fmt::format(
          "<circle class=\"dot c{}\" cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"4\"><title>{}{}: "
          "{}</title></circle>",
          s.color, x(px), y(py), s.name.empty() ? "" : html_escape(s.name) + ", ", number(px), number(py));
    }
  }
  return out;
}

/// A vertical line with short ends.
std::string whisker(int color, double x, double low, double high) {
  return fmt::format(
      "<path class=\"whisker c{0}\" d=\"M{1:.1f} {2:.1f}V{3:.1f}M{4:.1f} {2:.1f}H{5:.1f}M{4:.1f} "
      "{3:.1f}H{5:.1f}\"/>",
      color, x, low, high, x - 3, x + 3);
}

std::string whiskers(const Series& s, const Scale& x, const Scale& y) {
  std::string out;
  for (size_t i = 0; i < std::min(s.points.size(), s.intervals.size()); ++i) {
    const auto [low, high] = s.intervals[i];
    if (std::isfinite(s.points[i].second) && std::isfinite(low) && std::isfinite(high))
      out += whisker(s.color, x(s.points[i].first), y(low), y(high));
  }
  return out;
}

std::string axes(const Scale& x, const Scale& y, const ChartOptions& options, double bottom) {
  std::string out;
  for (const double tick : axis_ticks(y.low, y.high, 4)) {
    out += fmt::format(
        "<line class=\"grid\" x1=\"{0}\" y1=\"{2:.1f}\" x2=\"{1}\" y2=\"{2:.1f}\"/><text "
        "class=\"tick\" "
        "x=\"{3}\" y=\"{4:.1f}\" text-anchor=\"end\">{5}</text>",
        kLeft, kWidth - kRight, y(tick), kLeft - 6, y(tick) + 4, number(tick));
  }
  for (const double tick : axis_ticks(x.low, x.high, 5)) {
    if (options.integer_x && tick != std::floor(tick)) continue;
    out += fmt::format("<text class=\"tick\" x=\"{:.1f}\" y=\"{}\" text-anchor=\"middle\">{}</text>", x(tick),
                       bottom + 15, number(tick));
  }
  out += fmt::format("<line class=\"axis\" x1=\"{0}\" y1=\"{2}\" x2=\"{1}\" y2=\"{2}\"/>", kLeft, kWidth - kRight,
                     bottom);
  if (!options.x_label.empty()) {
    out += fmt::format("<text class=\"label\" x=\"{}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
                       (kLeft + kWidth - kRight) / 2, bottom + 30, html_escape(options.x_label));
  }
  return out;
}

std::string figure(const std::string& title, const std::string& above, double height, const std::string& body) {
  return fmt::format(
      "<figure><figcaption>{}</figcaption>{}<svg viewBox=\"0 0 {} {}\" role=\"img\" "
      "aria-label=\"{}\">{}</svg></figure>\n",
      html_escape(title), above, kWidth, height, html_escape(title), body);
}

}  // namespace

std::string html_escape(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (const char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      default:
        // Control characters other than newline and tab are not allowed in HTML.
        out += static_cast<unsigned char>(c) < 32 && c != '\n' && c != '\t' ? ' ' : c;
    }
  }
  return out;
}

std::vector<double> axis_ticks(double low, double high, int count) {
  const double rough = (high - low) / std::max(count, 1);
  if (!(rough > 0) || !std::isfinite(rough)) return {low};
  const double power = std::pow(10, std::floor(std::log10(rough)));
  double step = 10 * power;
  for (const double factor : {1.0, 2.0, 2.5, 5.0}) {
    if (factor * power >= rough * (1 - 1e-9)) {
      step = factor * power;
      break;
    }
  }
  std::vector<double> ticks;
  for (double i = std::ceil(low / step - 1e-9); i * step <= high + step * 1e-9; ++i)
    ticks.push_back(i == 0 ? 0 : i * step);
  return ticks;
}

std::vector<std::pair<double, double>> running_mean(const std::vector<std::pair<double, double>>& points,
                                                    size_t window) {
  std::vector<std::pair<double, double>> out;
  const size_t half = window / 2;
  for (size_t i = 0; i < points.size(); ++i) {
    double sum = 0, n = 0;
    const size_t end = std::min(points.size(), i + half + 1);
    for (size_t j = i > half ? i - half : 0; j < end; ++j) {
      if (std::isfinite(points[j].second)) sum += points[j].second, ++n;
    }
    const bool gap = !std::isfinite(points[i].second) || n == 0;
    out.emplace_back(points[i].first, gap ? std::numeric_limits<double>::quiet_NaN() : sum / n);
  }
  return out;
}

std::string line_chart(const std::vector<Series>& series, const ChartOptions& options) {
  double x_low = INFINITY, x_high = -INFINITY, y_low = INFINITY, y_high = -INFINITY;
  for (const Series& s : series) {
    for (const auto& [x, y] : s.points) {
      if (!std::isfinite(y)) continue;
      x_low = std::min(x_low, x), x_high = std::max(x_high, x);
      y_low = std::min(y_low, y), y_high = std::max(y_high, y);
    }
    for (const auto& [below, above] : s.intervals) {
      if (!std::isfinite(below) || !std::isfinite(above)) continue;
      y_low = std::min(y_low, below), y_high = std::max(y_high, above);
    }
  }
  if (x_low > x_high) return "";
  auto [low, high] = padded_range(y_low, y_high);
  low = options.y_min.value_or(low);
  high = std::max(high, low + 1e-12);
  if (x_low == x_high) x_low -= 0.5, x_high += 0.5;
  const Scale x{x_low, x_high, kLeft + 6, kWidth - kRight - 6};
  const Scale y{low, high, kHeight - kBottom, kTop};
  std::string body = axes(x, y, options, kHeight - kBottom);
  for (const Series& s : series) body += whiskers(s, x, y);
  for (const Series& s : series) body += polyline(s, x, y);
  return figure(options.title, legend(series), kHeight, body);
}

std::string reliability_diagram(const std::string& title, const std::vector<ReliabilityBar>& bins,
                                const std::string& note, int color) {
  constexpr double kPlot = 236, kGap = 58, kBars = 64, kTall = kPlot + kGap + kBars + 18;
  const Scale x{0, 1, kLeft + 6, kWidth - kRight - 6};
  const Scale y{0, 1, kPlot, kTop};
  ChartOptions options;
  options.x_label = "stated confidence";
  options.integer_x = false;
  std::string body = axes(x, y, options, kPlot);
  body += fmt::format("<line class=\"diagonal\" x1=\"{:.1f}\" y1=\"{:.1f}\" x2=\"{:.1f}\" y2=\"{:.1f}\"/>", x(0), y(0),
                      x(1), y(1));
  Series line;
  line.color = color;
  double most = 0;
  for (const ReliabilityBar& bin : bins) {
    most = std::max(most, bin.count);
    if (bin.count <= 0) continue;
    line.points.emplace_back(bin.confidence, bin.accuracy);
    if (std::isfinite(bin.accuracy_low) && std::isfinite(bin.accuracy_high))
      body += whisker(color, x(bin.confidence), y(bin.accuracy_low), y(bin.accuracy_high));
  }
  std::sort(line.points.begin(), line.points.end());
  body += polyline(line, x, y);
  const double base = kTall - 16;
  for (const ReliabilityBar& bin : bins) {
    if (bin.count <= 0) continue;
    body += fmt::format(
        "<circle class=\"dot c{}\" cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"{:.1f}\"><title>stated {:.2f}, correct {:.2f}, "
        "{:.0f} "
        "answers</title></circle>",
        color, x(bin.confidence), y(bin.accuracy), 3 + 4 * std::sqrt(bin.count / most), bin.confidence, bin.accuracy,
        bin.count);
    // All answers of the bin in a light bar, the correct ones in a dark one before it.
    const double left = x(bin.low) + 1, wide = x(bin.high) - x(bin.low) - 2;
    const auto bar = [&](const char* css, double count, const char* what) {
      const double tall = count > 0 ? std::max(1.0, kBars * count / most) : 0;
      body += fmt::format(
          "<rect class=\"{} c{}\" x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.1f}\" height=\"{:.1f}\"><title>{:.0f} {} stated "
          "in "
          "[{:.2f}, {:.2f}]</title></rect>",
          css, color, left, base - tall, wide, tall, count, what, bin.low, bin.high);
      return tall;
    };
    const double tall = bar("bar", bin.count, "answers");
    bar("bar full", std::round(bin.count * bin.accuracy), "correct answers");
    body += fmt::format("<text class=\"count\" x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"middle\">{:.0f}</text>",
                        left + wide / 2, base - tall - 3, bin.count);
  }
  body += fmt::format(
      "<line class=\"axis\" x1=\"{0}\" y1=\"{2}\" x2=\"{1}\" y2=\"{2}\"/><text class=\"tick\" x=\"{0}\" "
      "y=\"{3}\">answers in each bin; the dark part is correct</text>",
      kLeft, kWidth - kRight, base, base + 14);
  body += fmt::format("<text class=\"label\" x=\"{}\" y=\"{}\">share correct</text>", kLeft + 10, kTop + 12);
  return figure(title, note.empty() ? "" : "<div class=\"legend\">" + html_escape(note) + "</div>", kTall, body);
}

}  // namespace plural::eval
