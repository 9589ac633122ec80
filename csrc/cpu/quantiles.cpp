#include "efficientad/quantiles.h"

#include "cpu/kernels.h"
#include "cpu/order_selection.h"
#include "efficientad/scalar_dispatch.h"

namespace efficientad::EFFICIENTAD_INSTRUCTION_SET {
namespace {

template <class Scalar>
struct DenseValues {
  using Key = Accumulator<Scalar>;
  const Scalar* values;
  std::int64_t count;

  // One image of one channel, its values in a row.
  Pieces pieces() const {
    return Pieces(Runs(FeatureMaps{nullptr, 1, 1, 1, count, count, count, count, 1}));
  }

  Key value(std::int64_t index) const { return load_one(values + index); }

  template <class Visit>
  void visit_slice(std::int64_t, std::int64_t first, std::int64_t slice, const Visit& visit) const {
    const Scalar* at = values + first;
    visit_vectors<Key>(slice, [&](std::int64_t index, std::int64_t lanes, Mask<Key> valid) {
      visit(load_up_to(at + index, lanes), valid);
    });
  }
};

template <class Scalar>
Status run(const OrderStatistics& problem, const Execution& execution) {
  using Key = Accumulator<Scalar>;
  const DenseValues<Scalar> source{static_cast<const Scalar*>(problem.values), problem.count};
  Scalar* output = static_cast<Scalar*>(problem.output);
  const Team team = team_for(execution, problem.count);

  Bracket<Key> brackets[kMaximumRanks];
  Census<Key> censuses[kMaximumRanks];
  int bracket_count = 0;
  if (problem.count > kSampleSize) {
    Sample<Key> sample(source, problem.count);
    for (int index = 0; index < problem.rank_count; ++index) {
      // Quantiles are interpolated between neighbours in rank, which share a bracket.
      const bool neighbour = index > 0 && problem.ranks[index] == problem.ranks[index - 1] + 1;
      if (!neighbour) {
        brackets[bracket_count++] = sample.bracket(problem.ranks[index]);
      }
    }
  } else {
    bracket_count = 1;
  }
  Status status = take_census(source, brackets, bracket_count, team, censuses);
  if (status != kOk) return status;
  *problem.nan_count = censuses[0].nans;
  if (censuses[0].nans > 0) return kOk;

  for (int index = 0; index < problem.rank_count; ++index) {
    const std::int64_t rank = problem.ranks[index];
    Selected<Key> selected = {false, Key{}};
    for (int candidate = 0; candidate < bracket_count && !selected.found; ++candidate) {
      selected = select_inside(brackets[candidate], censuses[candidate], rank);
    }
    if (!selected.found) {
      const Bracket<Key> side = side_of(brackets[0], censuses[0], rank);
      Census<Key> census;
      status = take_census(source, &side, 1, team, &census);
      if (status != kOk) return status;
      selected = select_inside(side, census, rank);
    }
    store_one(output + index, selected.value);
  }
  return kOk;
}

}  // namespace

Status order_statistics(const OrderStatistics& problem, const Execution& execution) {
  return for_floating_type(problem.type,
                           [&](auto scalar) { return run<decltype(scalar)>(problem, execution); });
}

}  // namespace efficientad::EFFICIENTAD_INSTRUCTION_SET
