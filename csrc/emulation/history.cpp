#include "emulation/history.h"

#include <algorithm>
#include <string>
#include <utility>

namespace efficientad::emulation {

template <class T>
std::uint32_t History::Pool<T>::add(const T& value) {
  if (unused_.empty()) {
    elements_.push_back(value);
    return static_cast<std::uint32_t>(elements_.size() - 1);
  }
  const std::uint32_t index = unused_.back();
  unused_.pop_back();
  elements_[index] = value;
  return index;
}

template <class T>
void History::Pool<T>::clear() {
  elements_.resize(1);
  unused_.clear();
}

History::History(std::size_t bytes, const Clocks& clocks)
    : clocks_(clocks), regions_((bytes >> kRegionShift) + 1) {}

void History::start_block() {
  accesses_.clear();
  times_.clear();
}

template <class Visit>
void History::visit(std::size_t offset, std::size_t bytes, const Visit& visit) {
  const std::size_t end = offset + bytes;
  while (offset < end) {
    Region& region = regions_[offset >> kRegionShift];
    const std::size_t first = offset % kRegionBytes;
    const std::size_t last = std::min(first + (end - offset), kRegionBytes);
    // Where the access begins and ends, a granule must, too.
    const int shift = __builtin_ctzll(first | last);
    if (region.granules.empty() || shift < region.shift) {
      refine(region, std::min(shift, region.shift));
    }
    for (std::size_t index = first >> region.shift; index < last >> region.shift; ++index) {
      visit(region.granules[index]);
    }
    offset += last - first;
  }
}

void History::record(AccessKind kind, std::size_t offset, std::size_t bytes, const Knowledge& by,
                     SiteName site) {
  const Stamp stamp{clocks_.now(), by.actor, site};
  switch (kind) {
    case AccessKind::read:
      return visit(offset, bytes, [&](Granule& granule) { read(granule, by, stamp); });
    case AccessKind::write:
      return visit(offset, bytes, [&](Granule& granule) { overwrite(granule, by, stamp); });
    case AccessKind::atomic:
      return visit(offset, bytes, [&](Granule& granule) { add_atomic(granule, by, stamp); });
  }
}

void History::start_write(std::size_t offset, std::size_t bytes, const Knowledge& by, Actor unit,
                          SiteName site) {
  const Stamp stamp{kPending, unit, site};
  visit(offset, bytes, [&](Granule& granule) { overwrite(granule, by, stamp); });
}

void History::land_write(std::size_t offset, std::size_t bytes, Actor unit, SiteName site) {
  const Stamp stamp{clocks_.now(), unit, site};
  visit(offset, bytes, [&](Granule& granule) { granule.write = stamp; });
}

void History::overwrite(Granule& granule, const Knowledge& by, const Stamp& stamp) {
  if (granule.write.time > clocks_.block_start()) {
    check_write(granule, by, stamp, AccessKind::write);
    if (granule.reads.latest.time != 0) {
      check_chain(granule.reads, by, stamp, AccessKind::write);
      clear_chain(granule.reads);
    }
    if (granule.atomics != 0) {
      check_chain(accesses_[granule.atomics], by, stamp, AccessKind::write);
      clear_chain(accesses_[granule.atomics]);
      accesses_.remove(granule.atomics);
    }
  }
  granule = {stamp, {}, 0};
}

void History::read(Granule& granule, const Knowledge& by, const Stamp& stamp) {
  check_write(granule, by, stamp, AccessKind::read);
  if (granule.atomics != 0) {
    check_chain(accesses_[granule.atomics], by, stamp, AccessKind::read);
  }
  add_to_chain(granule.reads, by, stamp);
}

void History::add_atomic(Granule& granule, const Knowledge& by, const Stamp& stamp) {
  check_write(granule, by, stamp, AccessKind::atomic);
  if (granule.reads.latest.time != 0) {
    check_chain(granule.reads, by, stamp, AccessKind::atomic);
  }
  if (granule.atomics == 0) {
    granule.atomics = accesses_.add({stamp, 0, 0});
  } else {
    Accesses first = accesses_[granule.atomics];
    add_to_chain(first, by, stamp);
    accesses_[granule.atomics] = first;
  }
}

void History::check_write(const Granule& granule, const Knowledge& by, const Stamp& stamp,
                          AccessKind kind) const {
  if (kind != AccessKind::write && granule.write.time <= clocks_.block_start()) {
    throw Fault("shared memory is read at " + sites_[stamp.site].text() + " before it is written");
  }
  if (!by.includes(granule.write.time, granule.write.actor)) {
    report_race(granule.write, stamp, kind);
  }
}

void History::check_chain(const Accesses& first, const Knowledge& by, const Stamp& stamp,
                          AccessKind kind) const {
  if (const Accesses* unknown = first_unknown(first, by)) {
    report_race(unknown->latest, stamp, kind);
  }
}

bool History::is_known(const Accesses& accesses, const Knowledge& to) const {
  if (accesses.times == 0) return to.includes(accesses.latest.time, accesses.latest.actor);
  const WarpTimes& times = times_[accesses.times];
  const int first = accesses.latest.actor / cuda::kWarpSize * cuda::kWarpSize;
  for (int lane = 0; lane < cuda::kWarpSize; ++lane) {
    if (!to.includes(times[lane], static_cast<Actor>(first + lane))) return false;
  }
  return true;
}

const History::Accesses* History::first_unknown(const Accesses& first, const Knowledge& to) const {
  for (const Accesses* accesses = &first;; accesses = &accesses_[accesses->next]) {
    if (!is_known(*accesses, to)) return accesses;
    if (accesses->next == 0) return nullptr;
  }
}

void History::add_to_chain(Accesses& first, const Knowledge& by, const Stamp& stamp) {
  if (first.latest.time == 0) {
    first.latest = stamp;
    return;
  }
  if (first_unknown(first, by) == nullptr) {
    if (first.next != 0 || first.times != 0) clear_chain(first);
    first.latest = stamp;
    return;
  }
  const int warp = stamp.actor / cuda::kWarpSize;
  if (first.latest.actor / cuda::kWarpSize == warp) return add_to_warp(first, by, stamp);
  std::uint32_t* link = &first.next;
  while (*link != 0) {
    Accesses& accesses = accesses_[*link];
    if (accesses.latest.actor / cuda::kWarpSize == warp) return add_to_warp(accesses, by, stamp);
    link = &accesses.next;
  }
  // Added behind the first: adding may move the one that `link` is part of.
  const std::uint32_t added = accesses_.add({stamp, first.next, 0});
  first.next = added;
}

void History::add_to_warp(Accesses& accesses, const Knowledge& by, const Stamp& stamp) {
  const bool replaces = accesses.latest.actor == stamp.actor || is_known(accesses, by);
  if (accesses.times == 0 && !replaces) {
    accesses.times = times_.add({});
    times_[accesses.times][accesses.latest.actor % cuda::kWarpSize] = accesses.latest.time;
  }
  if (accesses.times != 0) {
    times_[accesses.times][stamp.actor % cuda::kWarpSize] = stamp.time;
  }
  accesses.latest = stamp;
}

void History::clear_chain(Accesses& first) {
  if (first.times != 0) times_.remove(first.times);
  for (std::uint32_t next = first.next; next != 0;) {
    const Accesses& accesses = accesses_[next];
    if (accesses.times != 0) times_.remove(accesses.times);
    accesses_.remove(next);
    next = accesses.next;
  }
  first = {};
}

History::Accesses History::copy_chain(const Accesses& first) {
  Accesses copy = first;
  if (first.times != 0) copy.times = times_.add(times_[first.times]);
  if (first.next != 0) copy.next = accesses_.add(copy_chain(accesses_[first.next]));
  return copy;
}

void History::refine(Region& region, int shift) {
  std::vector<Granule> fine(kRegionBytes >> shift);
  const std::size_t parts = std::size_t{1} << (region.shift - shift);
  for (std::size_t index = 0; index < region.granules.size(); ++index) {
    const Granule& coarse = region.granules[index];
    if (coarse.write.time <= clocks_.block_start()) continue;
    fine[index * parts] = coarse;
    for (std::size_t part = 1; part < parts; ++part) {
      Granule& copy = fine[index * parts + part];
      copy = {coarse.write, copy_chain(coarse.reads), 0};
      if (coarse.atomics != 0) copy.atomics = accesses_.add(copy_chain(accesses_[coarse.atomics]));
    }
  }
  region = {shift, std::move(fine)};
}

void History::report_race(const Stamp& earlier, const Stamp& now, AccessKind kind) const {
  std::string message = "data race in shared memory: ";
  message += kind == AccessKind::read ? "read" : "written";
  message += " at " + sites_[now.site].text();
  const std::string place = sites_[earlier.site].text();
  if (earlier.time == kPending) {
    message += " while the asynchronous copy issued at " + place + " is not waited for";
  } else if (clocks_.is_thread(earlier.actor)) {
    message += " without a barrier after another thread's access at " + place;
  } else if (clocks_.is_tensor_cores(earlier.actor)) {
    message += " without a barrier after the tensor cores' access at " + place;
  } else {
    message += " without waiting for the tensor copy issued at " + place;
  }
  throw Fault(message);
}

}  // namespace efficientad::emulation
