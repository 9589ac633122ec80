#include "emulation/fault.h"

#include <cstring>

namespace efficientad::emulation {

std::string Site::text() const {
  const char* slash = std::strrchr(file, '/');
  return std::string(slash == nullptr ? file : slash + 1) + ":" + std::to_string(line);
}

}  // namespace efficientad::emulation
