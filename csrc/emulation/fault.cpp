#include "emulation/fault.h"

#include <cstring>

namespace efficientad::emulation {

bool Site::operator==(const Site& other) const {
  return line == other.line && std::strcmp(file, other.file) == 0;
}

std::string Site::text() const {
  const char* slash = std::strrchr(file, '/');
  return std::string(slash == nullptr ? file : slash + 1) + ":" + std::to_string(line);
}

}  // namespace efficientad::emulation
