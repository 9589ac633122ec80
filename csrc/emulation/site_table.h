// Short names for places in a kernel's source, of which a record can keep many.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "emulation/fault.h"

namespace efficientad::emulation {

using SiteName = std::uint16_t;

class SiteTable {
 public:
  const Site& operator[](SiteName name) const { return sites_[name]; }

  SiteName name_of(Site site) {
    Known& known = known_[static_cast<std::size_t>(site.line) % known_.size()];
    if (known.file != site.file || known.line != site.line) {
      known = {site.file, site.line, find_or_add(site)};
    }
    return known.name;
  }

 private:
  // Most lookups end here. The same file may have several addresses, which does no harm.
  struct Known {
    const char* file = nullptr;
    int line = 0;
    SiteName name = 0;
  };

  SiteName find_or_add(Site site) {
    std::size_t name = 0;
    while (name < sites_.size() && sites_[name] != site) ++name;
    if (name > 0xffffu)
      throw Fault("a kernel has more places in its source than can be told apart");
    if (name == sites_.size()) sites_.push_back(site);
    return static_cast<SiteName>(name);
  }

  std::array<Known, 256> known_{};
  std::vector<Site> sites_;
};

}  // namespace efficientad::emulation
