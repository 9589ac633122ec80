// The copies of tensor tiles that an emulated block has under way.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "cuda/tensor_tiles.h"
#include "emulation/block_parts.h"
#include "emulation/random.h"
#include "emulation/transaction_barriers.h"

namespace efficientad::emulation {

class TensorCopies {
 public:
  TensorCopies(BlockParts& parts, TransactionBarriers& barriers)
      : parts_(parts), barriers_(barriers) {}

  // For the running thread: a box lands at `to` at some later moment. `tiles` must stay.
  void issue(std::size_t to, const cuda::TensorTiles& tiles, const cuda::Coordinates& coordinates,
             std::size_t barrier, Site site);

  // Lands one copy, drawn at random; false if there is none.
  bool land_one(Random& random);

  // Throws if a copy is under way, as none may be when the block ends.
  void check_ended() const;

 private:
  struct Copy {
    std::size_t to;
    const cuda::TensorTiles* tiles;
    cuda::Coordinates coordinates;
    std::size_t barrier;
    Actor unit;
    SiteName site;
  };

  void move(const Copy& copy);

  BlockParts& parts_;
  TransactionBarriers& barriers_;
  std::vector<Copy> copies_;
};

}  // namespace efficientad::emulation
