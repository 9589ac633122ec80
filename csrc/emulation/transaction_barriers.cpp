#include "emulation/transaction_barriers.h"

#include <cstdlib>
#include <utility>

namespace efficientad::emulation {
namespace {

constexpr std::size_t kBarrierBytes = 8;

// Both counts have 20 bits.
constexpr std::int64_t kMaximumCount = (1 << 20) - 1;

}  // namespace

class TransactionBarriers::Phase : public Wait {
 public:
  Phase(const Barrier& barrier, std::size_t place, int parity, Site site)
      : barrier_(barrier), place_(place), parity_(parity), site_(site) {}

  std::string what() const override {
    return "parity " + std::to_string(parity_) + " of the transaction barrier at byte " +
           std::to_string(place_) + ", which lacks " + std::to_string(barrier_.missing_arrivals) +
           " arrivals and " + std::to_string(barrier_.missing_bytes) + " bytes, at " + site_.text();
  }

 private:
  const Barrier& barrier_;
  std::size_t place_;
  int parity_;
  Site site_;
};

void TransactionBarriers::init(std::size_t place, int arrivals, Site site) {
  if (arrivals < 1 || arrivals > kMaximumCount) {
    throw Fault("a transaction barrier is initialised with an impossible count at " + site.text());
  }
  if (barriers_.count(place) != 0) {
    throw Fault("a transaction barrier is initialised twice at " + site.text());
  }
  const int slot = static_cast<int>(barriers_.size());
  if (slot == Clocks::kBarrierSlots) {
    throw Fault("a block has more transaction barriers than are emulated at " + site.text());
  }
  parts_.record(AccessKind::write, place, kBarrierBytes, parts_.memory.history().name_of(site));
  const Clock nothing(parts_.clocks.actors(), 0);
  barriers_[place] = {
      slot, parts_.scheduler.running(), false, arrivals, arrivals, 0, 0, nothing, nothing, {}};
}

void TransactionBarriers::fence_inits() {
  for (auto& [place, barrier] : barriers_) {
    if (barrier.initialiser == parts_.scheduler.running()) barrier.fenced = true;
  }
}

// Operations on barriers are atomic, but their initialisation must come before them.
TransactionBarriers::Barrier& TransactionBarriers::used(std::size_t place, Site site) {
  const auto found = barriers_.find(place);
  if (found == barriers_.end()) {
    throw Fault("a transaction barrier is used before it is initialised at " + site.text());
  }
  parts_.record(AccessKind::atomic, place, kBarrierBytes, parts_.memory.history().name_of(site));
  return found->second;
}

void TransactionBarriers::arrive(std::size_t place, std::int64_t expected_bytes, Site site) {
  Barrier& barrier = used(place, site);
  if (barrier.missing_arrivals == 0) {
    throw Fault("more threads arrive at a transaction barrier than it was initialised for, at " +
                site.text());
  }
  parts_.clocks.release(parts_.scheduler.running(), barrier.arriving);
  --barrier.missing_arrivals;
  add_bytes(barrier, expected_bytes);
}

Actor TransactionBarriers::start_copy(std::size_t place, Site site) {
  const Barrier& barrier = used(place, site);
  if (!barrier.fenced) {
    throw Fault("a tensor copy uses a transaction barrier without transaction_init_fence at " +
                site.text());
  }
  return parts_.clocks.copies_of(barrier.slot);
}

void TransactionBarriers::land_copy(std::size_t place, std::int64_t bytes) {
  Barrier& barrier = barriers_.at(place);
  parts_.clocks.release_unit(parts_.clocks.copies_of(barrier.slot), barrier.arriving);
  add_bytes(barrier, -bytes);
}

void TransactionBarriers::add_bytes(Barrier& barrier, std::int64_t bytes) {
  barrier.missing_bytes += bytes;
  if (std::llabs(barrier.missing_bytes) > kMaximumCount) {
    throw Fault("a transaction barrier counts more bytes than it can");
  }
  if (barrier.missing_arrivals == 0 && barrier.missing_bytes == 0) finish_phase(barrier);
}

void TransactionBarriers::finish_phase(Barrier& barrier) {
  ++barrier.phase;
  barrier.missing_arrivals = barrier.arrivals;
  barrier.completed.swap(barrier.arriving);
  barrier.arriving.assign(barrier.arriving.size(), 0);
  for (const std::uint32_t thread : barrier.waiting) {
    parts_.clocks.acquire(thread, barrier.completed);
    parts_.scheduler.wake(thread);
  }
  barrier.waiting.clear();
}

void TransactionBarriers::wait(std::size_t place, int parity, Site site) {
  Barrier& barrier = used(place, site);
  if (parity != 0 && parity != 1) {
    throw Fault("a transaction barrier is waited for with a parity that is not 0 or 1 at " +
                site.text());
  }
  const std::uint32_t thread = parts_.scheduler.running();
  if (static_cast<int>(barrier.phase % 2) != parity) {
    parts_.clocks.acquire(thread, barrier.completed);
    return;
  }
  barrier.waiting.push_back(thread);
  parts_.scheduler.wait(Phase(barrier, place, parity, site));
}

}  // namespace efficientad::emulation
