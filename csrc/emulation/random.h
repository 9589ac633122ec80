// Random numbers that cost little, for orders that only have to vary (SplitMix64).
#pragma once

#include <cstdint>
#include <limits>

namespace efficientad::emulation {

// A uniform random bit generator as the standard library's algorithms take it.
class Random {
 public:
  using result_type = std::uint64_t;

  explicit Random(std::uint64_t seed) : state_(seed) {}

  static constexpr result_type min() { return 0; }
  static constexpr result_type max() { return std::numeric_limits<result_type>::max(); }

  result_type operator()() {
    std::uint64_t value = state_ += 0x9e3779b97f4a7c15u;
    value = (value ^ value >> 30) * 0xbf58476d1ce4e5b9u;
    value = (value ^ value >> 27) * 0x94d049bb133111ebu;
    return value ^ value >> 31;
  }

 private:
  std::uint64_t state_;
};

}  // namespace efficientad::emulation
