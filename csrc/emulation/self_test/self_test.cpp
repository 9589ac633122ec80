#include "emulation/self_test/self_test.h"

#include <string_view>

namespace efficientad::cuda {

Status emulation_self_test(const char* subject, const char* fault) {
  const std::string_view name = subject;
  if (name == "launches") return self_test_launches(fault);
  if (name == "threads") return self_test_threads(fault);
  if (name == "matrices") return self_test_matrices(fault);
  if (name == "messages") return self_test_messages(fault);
  if (name == "tiles") return self_test_tiles(fault);
  return "the self-test knows no such subject";
}

}  // namespace efficientad::cuda
