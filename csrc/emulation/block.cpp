#include "emulation/block.h"

#include <string>
#include <utility>

namespace efficientad::emulation {
namespace {

[[noreturn, gnu::noinline]] void report_divergence(const std::string& what, Site site, Site other) {
  throw Fault("divergent " + what + ": reached at " + site.text() + " while others wait at " +
              other.text());
}

constexpr std::uint32_t lane_bit(std::uint32_t thread) { return 1u << thread % cuda::kWarpSize; }

}  // namespace

thread_local Block* Block::current_ = nullptr;

Block::Block(const cuda::LaunchShape& shape)
    : shape_(shape),
      parts_(shape),
      warps_(shape.threads / cuda::kWarpSize),
      copies_(shape.threads),
      barriers_(parts_),
      tensor_copies_(parts_, barriers_) {
  for (std::uint32_t end = Warpgroup::kThreads; end <= shape.threads; end += Warpgroup::kThreads) {
    warpgroups_.emplace_back(parts_, end - Warpgroup::kThreads);
  }
}

void Block::run(const cuda::Extent& index, const std::function<void()>& kernel, Random& random) {
  index_ = index;
  random_ = &random;
  parts_.clocks.start_block();
  parts_.memory.start_block();
  barriers_.start_block();
  for (Warpgroup& warpgroup : warpgroups_) warpgroup.start_block();
  Block* const outer = std::exchange(current_, this);
  const auto thread = [&] {
    kernel();
    check_ended();
  };
  const auto advance = [this](Random& any) { return tensor_copies_.land_one(any); };
  try {
    parts_.scheduler.run(thread, advance, random);
    tensor_copies_.check_ended();
  } catch (const Fault& fault) {
    current_ = outer;
    throw Fault("block (" + std::to_string(index_.x) + ", " + std::to_string(index_.y) + ", " +
                std::to_string(index_.z) + "), " + fault.what());
  }
  current_ = outer;
}

Warpgroup& Block::warpgroup(Site site) {
  const std::size_t number = thread() / Warpgroup::kThreads;
  if (number >= warpgroups_.size()) {
    throw Fault("a warpgroup that is not complete multiplies at " + site.text());
  }
  return warpgroups_[number];
}

void Block::check_ended() const {
  if (const AsynchronousCopy* copy = copies_[thread()].oldest()) {
    throw Fault("the thread ends without waiting for its asynchronous copy issued at " +
                parts_.memory.history().site(copy->site).text());
  }
  const std::size_t number = thread() / Warpgroup::kThreads;
  if (number < warpgroups_.size()) warpgroups_[number].check_ended();
}

void Block::barrier(Site site) {
  if (at_barrier_ > 0 && site != barrier_site_) {
    report_divergence("barrier", site, barrier_site_);
  }
  barrier_site_ = site;
  if (++at_barrier_ < shape_.threads) {
    parts_.scheduler.wait(WaitAt("the barrier", site));
    return;
  }
  at_barrier_ = 0;
  parts_.clocks.meet_block();
  for (std::uint32_t other = 0; other < warps_.size(); ++other) {
    parts_.scheduler.wake_lanes(other, other == warp() ? ~lane_bit(thread()) : ~0u);
  }
}

void Block::meet(WarpOperation operation, void* operands, Site site) {
  Warp& own = warps_[warp()];
  if (own.arrived > 0 && (operation != own.operation || site != own.site)) {
    report_divergence("warp operation", site, own.site);
  }
  own.site = site;
  own.operation = operation;
  own.operands[thread() % cuda::kWarpSize] = operands;
  if (++own.arrived < cuda::kWarpSize) {
    parts_.scheduler.wait(WaitAt("the warp operation", site));
    return;
  }
  own.arrived = 0;
  operation(*this, own.operands);
  parts_.scheduler.wake_lanes(warp(), ~lane_bit(thread()));
}

void Block::warp_barrier(Site site) {
  meet([](Block& block, const LaneOperands&) { block.parts_.clocks.meet_warp(block.warp()); },
       nullptr, site);
}

std::uint64_t Block::shuffle(std::uint64_t value, int source, Site site) {
  struct Lane {
    std::uint64_t value;
    int source;
    std::uint64_t result;
  };
  Lane own{value, source, 0};
  meet(
      [](Block&, const LaneOperands& operands) {
        for (void* operand : operands) {
          Lane& lane = *static_cast<Lane*>(operand);
          lane.result = static_cast<const Lane*>(operands[lane.source])->value;
        }
      },
      &own, site);
  return own.result;
}

void Block::record(AccessKind kind, std::size_t offset, std::size_t bytes, Site site) {
  parts_.record(kind, offset, bytes, parts_.memory.history().name_of(site));
}

void Block::record_lane(AccessKind kind, int lane, std::size_t offset, std::size_t bytes,
                        SiteName site) {
  const std::size_t thread = warp() * cuda::kWarpSize + static_cast<std::size_t>(lane);
  parts_.memory.history().record(kind, offset, bytes, parts_.clocks.known_to(thread), site);
}

// The source is read at once or when the copy is waited for, as chance has it.
void Block::copy_async(std::size_t to, const void* from, Site site) {
  const auto actor = static_cast<Actor>(thread());
  History& history = parts_.memory.history();
  const SiteName name = history.name_of(site);
  history.start_write(to, kCopyBytes, parts_.clocks.known_to(actor), actor, name);
  const AsynchronousCopy copy{to, from, name, (*random_)() % 2 == 0};
  if (copy.moved) {
    move(copy);
  } else {
    parts_.memory.poison(to, kCopyBytes);
  }
  copies_[actor].issue(copy);
}

void Block::copy_async_wait(std::uint64_t pending) {
  copies_[thread()].wait(pending, [this](const AsynchronousCopy& copy) {
    if (!copy.moved) move(copy);
    parts_.memory.history().land_write(copy.to, kCopyBytes, static_cast<Actor>(thread()),
                                       copy.site);
  });
}

void Block::move(const AsynchronousCopy& copy) {
  if (copy.from == nullptr) {
    std::memset(parts_.memory.at(copy.to), 0, kCopyBytes);
  } else {
    std::memcpy(parts_.memory.at(copy.to), copy.from, kCopyBytes);
  }
}

}  // namespace efficientad::emulation
