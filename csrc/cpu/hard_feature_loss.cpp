#include "efficientad/hard_feature_loss.h"

#include "cpu/kernels.h"
#include "cpu/order_selection.h"
#include "efficientad/scalar_dispatch.h"

namespace efficientad::EFFICIENTAD_INSTRUCTION_SET {
namespace {

// (teacher - student)^2. Forward and gradient must round alike, or the selection would differ.
template <class Number>
inline Number squared_difference(Number teacher, Number student) {
  const Number difference = teacher - student;
  return difference * difference;
}

template <class Scalar>
struct SquaredDifferences {
  using Key = Accumulator<Scalar>;
  FeatureMaps teacher;
  FeatureMaps student;
  Runs runs{teacher, student};

  Pieces pieces() const { return Pieces(runs); }

  Key value(std::int64_t index) const {
    const std::int64_t run = index / runs.length, element = index % runs.length;
    return squared_difference(load_one(at(teacher, run) + element),
                              load_one(at(student, run) + element));
  }

  template <class Visit>
  void visit_slice(std::int64_t run, std::int64_t first, std::int64_t count,
                   const Visit& visit) const {
    const Scalar* t = at(teacher, run) + first;
    const Scalar* s = at(student, run) + first;
    visit_vectors<Key>(count, [&](std::int64_t index, std::int64_t lanes, Mask<Key> valid) {
      visit(squared_difference(load_up_to(t + index, lanes), load_up_to(s + index, lanes)), valid);
    });
  }

  const Scalar* at(const FeatureMaps& maps, std::int64_t run) const {
    return static_cast<const Scalar*>(maps.data) + runs.offset(maps, run);
  }
};

template <class Scalar>
Status forward(const HardFeatureLoss& problem, const Execution& execution) {
  using Key = Accumulator<Scalar>;
  const SquaredDifferences<Scalar> source{problem.teacher, problem.student};
  const std::int64_t elements = problem.teacher.elements();
  const Team team = team_for(execution, elements);

  Bracket<Key> bracket;
  if (elements > kSampleSize) {
    bracket = Sample<Key>(source, elements).bracket(problem.rank);
  }
  Census<Key> census;
  Status status = take_census(source, &bracket, 1, team, &census);
  if (status != kOk) return status;
  Selected<Key> threshold = {true, static_cast<Key>(__builtin_nan(""))};
  if (problem.rank < elements - census.nans) {
    threshold = select_inside(bracket, census, problem.rank);
    if (!threshold.found) {
      bracket = side_of(bracket, census, problem.rank);
      census.clear();
      status = take_census(source, &bracket, 1, team, &census);
      if (status != kOk) return status;
      threshold = select_inside(bracket, census, problem.rank);
    }
  }

  std::int64_t selected = elements - census.below - census.inside;
  double sum = census.sum_above;
  if (bracket.low == bracket.high) {
    selected += census.inside;
    sum += static_cast<double>(census.inside) * static_cast<double>(threshold.value);
  } else {
    for (std::int64_t index = 0; index < census.inside; ++index) {
      const Key value = census.kept[index];
      if (value >= threshold.value) {
        ++selected;
        sum += static_cast<double>(value);
      }
    }
  }
  *static_cast<Key*>(problem.loss) = static_cast<Key>(sum / static_cast<double>(selected));
  problem.selection[0] = static_cast<double>(threshold.value);
  problem.selection[1] = static_cast<double>(selected);
  return kOk;
}

template <class Scalar>
void gradient(const HardFeatureLossGradient& problem, const Execution& execution) {
  using Key = Accumulator<Scalar>;
  const SquaredDifferences<Scalar> source{problem.teacher, problem.student,
                                          Runs{problem.teacher, problem.student, problem.gradient}};
  const Key threshold = static_cast<Key>(problem.selection[0]);
  const Key factor =
      static_cast<Key>(-2.0 * static_cast<double>(*static_cast<const Key*>(problem.loss_gradient)) /
                       problem.selection[1]);
  const Pieces pieces = source.pieces();
  const Team team = team_for(execution, problem.teacher.elements());
  parallel_ranges(team, pieces.count, [&](int, std::int64_t begin, std::int64_t end) {
    for (std::int64_t piece = begin; piece < end; ++piece) {
      pieces.for_each_slice(piece, [&](std::int64_t run, std::int64_t first, std::int64_t count) {
        const Scalar* t = source.at(problem.teacher, run) + first;
        const Scalar* s = source.at(problem.student, run) + first;
        Scalar* output = const_cast<Scalar*>(source.at(problem.gradient, run)) + first;
        const auto masked = [&](Vector<Key> teacher, Vector<Key> student) {
          // Written so that a NaN is selected, as in the forward pass.
          const Mask<Key> selected = ~(squared_difference(teacher, student) < threshold);
          return selected ? (teacher - student) * factor : Vector<Key>{};
        };
        visit_vectors<Key>(count, [&](std::int64_t index, std::int64_t lanes, Mask<Key>) {
          store_up_to(output + index,
                      masked(load_up_to(t + index, lanes), load_up_to(s + index, lanes)), lanes);
        });
      });
    }
  });
}

}  // namespace

Status hard_feature_loss(const HardFeatureLoss& problem, const Execution& execution) {
  return for_floating_type(
      problem.type, [&](auto scalar) { return forward<decltype(scalar)>(problem, execution); });
}

Status hard_feature_loss_gradient(const HardFeatureLossGradient& problem,
                                  const Execution& execution) {
  return for_floating_type(problem.type, [&](auto scalar) {
    gradient<decltype(scalar)>(problem, execution);
    return kOk;
  });
}

}  // namespace efficientad::EFFICIENTAD_INSTRUCTION_SET
