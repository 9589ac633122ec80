#include "emulation/tensor_copies.h"

#include <cstring>
#include <utility>

#include "emulation/swizzle.h"

namespace efficientad::emulation {
namespace {

std::size_t box_bytes(const cuda::TensorTiles& tiles) {
  std::size_t bytes = cuda::kTileRowBytes;
  for (int dimension = 1; dimension < tiles.rank; ++dimension) {
    bytes *= static_cast<std::size_t>(tiles.box[dimension]);
  }
  return bytes;
}

// Row `row` of a box, its first dimension, with zeros for what lies outside of the tensor.
void read_row(const cuda::TensorTiles& tiles, const cuda::Coordinates& coordinates, int row,
              unsigned char* bytes) {
  std::memset(bytes, 0, cuda::kTileRowBytes);
  std::int64_t start = 0;
  for (int dimension = 1; dimension < tiles.rank; ++dimension) {
    const std::int64_t at =
        std::int64_t{coordinates.values[dimension]} + row % tiles.box[dimension];
    if (at < 0 || at >= tiles.extent[dimension]) return;
    start += at * tiles.stride[dimension];
    row /= tiles.box[dimension];
  }
  const auto* data = static_cast<const unsigned char*>(tiles.data);
  const auto size = static_cast<std::int64_t>(cuda::element_bytes(tiles.type));
  for (std::int64_t element = 0; element < tiles.box[0]; ++element) {
    const std::int64_t at = coordinates.values[0] + element;
    if (at < 0 || at >= tiles.extent[0]) continue;
    std::memcpy(bytes + element * size, data + (start + at) * size, static_cast<std::size_t>(size));
  }
}

}  // namespace

void TensorCopies::issue(std::size_t to, const cuda::TensorTiles& tiles,
                         const cuda::Coordinates& coordinates, std::size_t barrier, Site site) {
  const Actor unit = barriers_.start_copy(barrier, site);
  const SiteName name = parts_.memory.history().name_of(site);
  const std::size_t bytes = box_bytes(tiles);
  parts_.memory.history().start_write(to, bytes, parts_.clocks.known_to(parts_.scheduler.running()),
                                      unit, name);
  parts_.memory.poison(to, bytes);
  copies_.push_back({to, &tiles, coordinates, barrier, unit, name});
}

bool TensorCopies::land_one(Random& random) {
  if (copies_.empty()) return false;
  std::swap(copies_[random() % copies_.size()], copies_.back());
  const Copy copy = copies_.back();
  copies_.pop_back();
  move(copy);
  const std::size_t bytes = box_bytes(*copy.tiles);
  parts_.memory.history().land_write(copy.to, bytes, copy.unit, copy.site);
  barriers_.land_copy(copy.barrier, static_cast<std::int64_t>(bytes));
  return true;
}

void TensorCopies::move(const Copy& copy) {
  const std::size_t rows = box_bytes(*copy.tiles) / cuda::kTileRowBytes;
  for (std::size_t row = 0; row < rows; ++row) {
    unsigned char bytes[cuda::kTileRowBytes];
    read_row(*copy.tiles, copy.coordinates, static_cast<int>(row), bytes);
    for (std::size_t chunk = 0; chunk < cuda::kTileRowBytes; chunk += kChunkBytes) {
      const std::size_t place = swizzled(copy.to + row * cuda::kTileRowBytes + chunk);
      std::memcpy(parts_.memory.at(place), bytes + chunk, kChunkBytes);
    }
  }
}

void TensorCopies::check_ended() const {
  if (copies_.empty()) return;
  throw Fault("the block ends before the tensor copy has landed that was issued at " +
              parts_.memory.history().site(copies_.front().site).text());
}

}  // namespace efficientad::emulation
