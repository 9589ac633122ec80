#include "cuda/convert.h"
#include "cuda/kernels.h"
#include "cuda/selection.h"
#include "efficientad/quantiles.h"
#include "efficientad/scalar_dispatch.h"

namespace efficientad::cuda {
namespace {

template <class T, int Width>
struct Values : RadixKey<T> {
  Runs runs;
  Global<const T> data;

  Values(const Runs& all, const Global<const T>& values) : runs(all), data(values) {}

  template <class Visit>
  EFFICIENTAD_DEVICE void visit_keys(const Visit& visit) const {
    runs.visit_vectors<Width>([&](std::int64_t, std::int64_t, std::int64_t element) {
      const auto vector = data.template load_vector<Width>(element);
      for (int i = 0; i < Width; ++i) visit(RadixKey<T>::of(vector.values[i]));
    });
  }
};

template <class T>
EFFICIENTAD_KERNEL(kWarpSize)
output_kernel(Selection<typename RadixKey<T>::Key> selection, Global<T> output,
              Global<std::int64_t> nan_count) {
  const int rank = static_cast<int>(thread_index());
  if (rank < selection.rank_count) {
    output.store(rank, RadixKey<T>::value(selection.prefixes.load(rank)));
  }
  if (rank == 0) nan_count.store(0, static_cast<std::int64_t>(selection.nan_count.load(0)));
}

template <class T, int Width>
Status run(const OrderStatistics& problem, const Execution& execution) {
  const Values<T, Width> values(
      Runs(problem.count), Global<const T>(static_cast<const T*>(problem.values), problem.count));
  Ranks ranks{};
  for (int i = 0; i < problem.rank_count; ++i) ranks.values[i] = problem.ranks[i];
  const Selection<typename RadixKey<T>::Key> selection(problem.workspace, problem.rank_count);
  const Status status = select(values, ranks, selection, execution);
  if (status != kOk) return status;
  const LaunchShape shape{{}, kWarpSize, 0};
  return launch(output_kernel<T>, shape, execution, selection,
                Global<T>(static_cast<T*>(problem.output), problem.rank_count),
                Global<std::int64_t>(problem.nan_count, 1));
}

}  // namespace

std::size_t order_statistics_workspace(const OrderStatistics& problem) {
  return Selection<std::uint64_t>::bytes(problem.rank_count);
}

Status order_statistics(const OrderStatistics& problem, const Execution& execution) {
  return for_floating_type(problem.type, [&](auto scalar) {
    using T = decltype(scalar);
    const bool wide = is_vectorizable(problem.values, sizeof(T), {problem.count});
    return wide ? run<T, kVectorWidth<T>>(problem, execution) : run<T, 1>(problem, execution);
  });
}

}  // namespace efficientad::cuda
