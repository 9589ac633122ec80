// What an emulated kernel may do wrong, and where.
#pragma once

#include <cstring>
#include <stdexcept>
#include <string>

namespace efficientad::emulation {

// A place in a kernel's source. As a default argument, here() is the place of the call.
struct Site {
  const char* file;
  int line;

  static constexpr Site here(const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
    return {file, line};
  }

  bool operator==(const Site& other) const {
    return line == other.line && (file == other.file || std::strcmp(file, other.file) == 0);
  }
  bool operator!=(const Site& other) const { return !(*this == other); }
  std::string text() const;  // file name without folders, and line
};

// A kernel did what a GPU would punish with a wrong result, an error or a hang.
struct Fault : std::runtime_error {
  using std::runtime_error::runtime_error;
};

}  // namespace efficientad::emulation
