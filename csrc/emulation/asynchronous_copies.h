// The copies that one emulated thread has issued and not waited for.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "emulation/site_table.h"

namespace efficientad::emulation {

inline constexpr int kCopyBytes = 16;

struct AsynchronousCopy {
  std::size_t to;    // in shared memory
  const void* from;  // nullptr for zeros
  SiteName site;
  bool moved;  // the bytes are there already
};

class AsynchronousCopies {
 public:
  void issue(const AsynchronousCopy& copy) { copies_.push_back({copy, group_}); }
  void commit() { ++group_; }

  // Takes out the copies of all committed groups but the last `pending`, in the order of issue.
  template <class Land>
  void wait(std::uint64_t pending, const Land& land) {
    std::size_t landed = 0;
    while (landed < copies_.size() && copies_[landed].group + pending < group_) {
      land(copies_[landed++].copy);
    }
    copies_.erase(copies_.begin(), copies_.begin() + static_cast<std::ptrdiff_t>(landed));
  }

  // nullptr if none is under way.
  const AsynchronousCopy* oldest() const {
    return copies_.empty() ? nullptr : &copies_.front().copy;
  }

 private:
  struct Issued {
    AsynchronousCopy copy;
    std::uint64_t group;
  };

  std::vector<Issued> copies_;
  std::uint64_t group_ = 0;
};

}  // namespace efficientad::emulation
