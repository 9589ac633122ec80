// Who touched each part of a block's shared memory, and when.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "cuda/launch_shape.h"
#include "emulation/clocks.h"
#include "emulation/fault.h"
#include "emulation/site_table.h"

namespace efficientad::emulation {

enum class AccessKind { read, write, atomic };

// Finds data races exactly, whatever order the threads happened to run in: of two accesses to one
// place by different actors, at least one of them a write and not both atomic, one must happen
// before the other. Reading what was never written is a fault.
class History {
 public:
  History(std::size_t bytes, const Clocks& clocks);

  // What was recorded until now is of a block that is gone.
  void start_block();

  // Checks and records an access to [offset, offset + bytes), which must lie inside.
  void record(AccessKind kind, std::size_t offset, std::size_t bytes, const Knowledge& by,
              SiteName site);

  // Checks a write by an asynchronous unit as one of `by`, who started it; from now on and until
  // it lands, every access is a race, even by who started it.
  void start_write(std::size_t offset, std::size_t bytes, const Knowledge& by, Actor unit,
                   SiteName site);
  void land_write(std::size_t offset, std::size_t bytes, Actor unit, SiteName site);

  SiteName name_of(Site site) { return sites_.name_of(site); }
  const Site& site(SiteName name) const { return sites_[name]; }

 private:
  struct Stamp {
    Time time;
    Actor actor;
    SiteName site;
  };

  // The latest accesses of one warp (32 actors in a row), and where those of the next one are.
  // `times` is 0 for a single actor, otherwise where the times of all 32 are.
  struct Accesses {
    Stamp latest;
    std::uint32_t next;
    std::uint32_t times;
  };

  // A part of a region that was only ever accessed as a whole. Nothing in it is valid unless the
  // write is of this block.
  struct Granule {
    Stamp write;
    Accesses reads;  // none if latest.time is 0
    std::uint32_t atomics;
  };

  using WarpTimes = std::array<Time, cuda::kWarpSize>;

  // Elements that come and go, named by their index; 0 names none. Adding one may move the others.
  template <class T>
  class Pool {
   public:
    T& operator[](std::uint32_t index) { return elements_[index]; }
    const T& operator[](std::uint32_t index) const { return elements_[index]; }
    std::uint32_t add(const T& value);
    void remove(std::uint32_t index) { unused_.push_back(index); }
    void clear();

   private:
    std::vector<T> elements_{T{}};
    std::vector<std::uint32_t> unused_;
  };

  // Regions of equal size have granules as fine as the accesses to them ask for: 32 bytes at first,
  // as tensor cores read, or fewer.
  struct Region {
    int shift = 5;  // a granule has 1 << shift bytes
    std::vector<Granule> granules;
  };
  static constexpr int kRegionShift = 10;
  static constexpr std::size_t kRegionBytes = std::size_t{1} << kRegionShift;

  void refine(Region& region, int shift);
  template <class Visit>
  void visit(std::size_t offset, std::size_t bytes, const Visit& visit);
  void overwrite(Granule& granule, const Knowledge& by, const Stamp& stamp);
  void read(Granule& granule, const Knowledge& by, const Stamp& stamp);
  void add_atomic(Granule& granule, const Knowledge& by, const Stamp& stamp);
  void check_write(const Granule& granule, const Knowledge& by, const Stamp& stamp,
                   AccessKind kind) const;
  void check_chain(const Accesses& first, const Knowledge& by, const Stamp& stamp,
                   AccessKind kind) const;

  bool is_known(const Accesses& accesses, const Knowledge& to) const;
  const Accesses* first_unknown(const Accesses& first, const Knowledge& to) const;
  void add_to_chain(Accesses& first, const Knowledge& by, const Stamp& stamp);
  void add_to_warp(Accesses& accesses, const Knowledge& by, const Stamp& stamp);
  void clear_chain(Accesses& first);
  Accesses copy_chain(const Accesses& first);

  [[noreturn]] void report_race(const Stamp& earlier, const Stamp& now, AccessKind kind) const;

  const Clocks& clocks_;
  std::vector<Region> regions_;
  Pool<Accesses> accesses_;
  Pool<WarpTimes> times_;
  SiteTable sites_;
};

}  // namespace efficientad::emulation
