#include "emulation/shared_memory.h"

#include <cstring>
#include <string>

namespace efficientad::emulation {
namespace {

// As strict as any hardware unit that reads shared memory asks for.
constexpr std::size_t kAlignment = 1024;

}  // namespace

SharedMemory::SharedMemory(std::size_t bytes)
    : size_(bytes), storage_(bytes + kAlignment), history_(bytes) {
  const auto address = reinterpret_cast<std::uintptr_t>(storage_.data());
  aligned_ = storage_.data() + (kAlignment - address % kAlignment) % kAlignment;
}

void SharedMemory::poison(std::uint64_t now) {
  std::memset(aligned_, 0xff, size_);
  first_epoch_ = now;
}

bool SharedMemory::ordered(const Access& earlier, const Moment& now) {
  const Moment& then = earlier.moment;
  if (then.block_epoch < now.block_epoch || then.thread == now.thread) return true;
  return then.warp == now.warp && then.warp_epoch < now.warp_epoch;
}

void SharedMemory::check(const Access& earlier, AccessKind kind, const Moment& now, Site site) {
  if (ordered(earlier, now) || (earlier.atomic && kind == AccessKind::atomic)) return;
  throw Fault(std::string("data race in shared memory: ") +
              (kind == AccessKind::read ? "read" : "written") + " at " + site.text() +
              " without a barrier after another thread's access at " + earlier.site.text());
}

void SharedMemory::record(AccessKind kind, std::size_t offset, std::size_t bytes, const Moment& now,
                          Site site) {
  for (std::size_t byte = offset; byte < offset + bytes; ++byte) {
    History& history = history_[byte];
    if (kind != AccessKind::write && history.write.moment.block_epoch < first_epoch_) {
      throw Fault("shared memory is read at " + site.text() + " before it is written");
    }
    check(history.write, kind, now, site);
    if (kind == AccessKind::read) {
      Moment reader = now;
      if (!ordered(history.read, now)) {
        const Moment& other = history.read.moment;
        reader.thread = kSeveral;
        if (other.warp != now.warp) reader.warp = kSeveral;
      }
      history.read = {reader, site, false};
    } else {
      check(history.read, kind, now, site);
      history.write = {now, site, kind == AccessKind::atomic};
    }
  }
}

}  // namespace efficientad::emulation
