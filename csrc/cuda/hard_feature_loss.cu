#include "cuda/convert.h"
#include "cuda/kernels.h"
#include "cuda/reduction.h"
#include "cuda/selection.h"
#include "efficientad/hard_feature_loss.h"
#include "efficientad/scalar_dispatch.h"

namespace efficientad::cuda {
namespace {

constexpr int kThreads = Runs::kThreads;
constexpr int kWarps = kThreads / kWarpSize;

// Sums are split among this many blocks at most, whatever the GPU, so that they round alike.
constexpr std::int64_t kMaximumSumBlocks = 1024;

// Forward and gradient must round alike, or the selection would differ.
template <class Number>
EFFICIENTAD_DEVICE Number squared_difference(Number teacher, Number student) {
  const Number difference = teacher - student;
  return difference * difference;
}

// A NaN is selected, whatever the threshold.
template <class Number>
EFFICIENTAD_DEVICE bool is_selected(Number value, Number threshold) {
  return value >= threshold || value != value;
}

template <class T, int Width>
struct SquaredDifferences : RadixKey<Accumulator<T>> {
  Runs runs;
  RunMaps<const T> teacher, student;

  SquaredDifferences(const Runs& all, const FeatureMaps& teacher_maps,
                     const FeatureMaps& student_maps)
      : runs(all), teacher(teacher_maps), student(student_maps) {}

  template <class Visit>
  EFFICIENTAD_DEVICE void visit_values(const Visit& visit) const {
    runs.visit_vectors<Width>([&](std::int64_t image, std::int64_t run, std::int64_t element) {
      const auto t = teacher.data.template load_vector<Width>(teacher.offset(image, run, element));
      const auto s = student.data.template load_vector<Width>(student.offset(image, run, element));
      for (int i = 0; i < Width; ++i) {
        visit(squared_difference(widen(t.values[i]), widen(s.values[i])));
      }
    });
  }

  template <class Visit>
  EFFICIENTAD_DEVICE void visit_keys(const Visit& visit) const {
    visit_values([&](Accumulator<T> value) { visit(RadixKey<Accumulator<T>>::of(value)); });
  }
};

// The selected elements that each block of a launch has seen.
struct PartialSums {
  Global<double> sums;
  Global<std::int64_t> counts;

  static constexpr std::size_t kBytes = kMaximumSumBlocks * (sizeof(double) + sizeof(std::int64_t));

  explicit PartialSums(unsigned char* place)
      : sums(reinterpret_cast<double*>(place), kMaximumSumBlocks),
        counts(reinterpret_cast<std::int64_t*>(place + kMaximumSumBlocks * sizeof(double)),
               kMaximumSumBlocks) {}
};

template <class Source>
EFFICIENTAD_KERNEL(kThreads)
sum_kernel(Source source, Selection<typename Source::Key> selection, PartialSums partial) {
  SharedMemory memory;
  const auto sum_scratch = memory.array<double>(kWarps);
  const auto count_scratch = memory.array<std::int64_t>(kWarps);
  const auto threshold = Source::value(selection.prefixes.load(0));
  double sum = 0;
  std::int64_t count = 0;
  source.visit_values([&](decltype(threshold) value) {
    if (!is_selected(value, threshold)) return;
    sum += static_cast<double>(value);
    ++count;
  });
  sum = reduce_block<Sum>(sum, sum_scratch);
  count = reduce_block<Sum>(count, count_scratch);
  if (thread_index() == 0) {
    partial.sums.store(block_index().x, sum);
    partial.counts.store(block_index().x, count);
  }
}

// One block.
template <class Number>
EFFICIENTAD_KERNEL(kThreads)
loss_kernel(PartialSums partial, int partial_count,
            Selection<typename RadixKey<Number>::Key> selection, Global<Number> loss,
            Global<double> result) {
  SharedMemory memory;
  const auto sum_scratch = memory.array<double>(kWarps);
  const auto count_scratch = memory.array<std::int64_t>(kWarps);
  double sum = 0;
  std::int64_t count = 0;
  for (int i = static_cast<int>(thread_index()); i < partial_count; i += kThreads) {
    sum += partial.sums.load(i);
    count += partial.counts.load(i);
  }
  sum = reduce_block<Sum>(sum, sum_scratch);
  count = reduce_block<Sum>(count, count_scratch);
  if (thread_index() == 0) {
    loss.store(0, static_cast<Number>(sum / static_cast<double>(count)));
    result.store(0, static_cast<double>(RadixKey<Number>::value(selection.prefixes.load(0))));
    result.store(1, static_cast<double>(count));
  }
}

template <class T, int Width>
Status forward(const HardFeatureLoss& problem, const Runs& runs, const Execution& execution) {
  using Number = Accumulator<T>;
  using Key = typename RadixKey<Number>::Key;
  const SquaredDifferences<T, Width> source(runs, problem.teacher, problem.student);
  const Selection<Key> selection(problem.workspace, 1);
  const PartialSums partial(static_cast<unsigned char*>(problem.workspace) +
                            Selection<Key>::bytes(1));
  Status status = select(source, Ranks{{problem.rank}}, selection, execution);
  if (status != kOk) return status;

  constexpr std::size_t kScratch =
      shared_bytes<double>(kWarps) + shared_bytes<std::int64_t>(kWarps);
  const LaunchShape sum{runs.grid(kMaximumSumBlocks), kThreads, kScratch};
  status =
      launch(sum_kernel<SquaredDifferences<T, Width>>, sum, execution, source, selection, partial);
  if (status != kOk) return status;
  const LaunchShape last{{}, kThreads, kScratch};
  return launch(loss_kernel<Number>, last, execution, partial, static_cast<int>(sum.grid.x),
                selection, Global<Number>(static_cast<Number*>(problem.loss), 1),
                Global<double>(problem.selection, 2));
}

template <class T>
struct Gradient {
  Runs runs;
  RunMaps<const T> teacher, student;
  RunMaps<T> gradient;
  Global<const Accumulator<T>> loss_gradient;
  Global<const double> selection;
};

template <class T, int Width>
EFFICIENTAD_KERNEL(kThreads)
gradient_kernel(Gradient<T> problem) {
  using Number = Accumulator<T>;
  const Number threshold = static_cast<Number>(problem.selection.load(0));
  const Number factor = static_cast<Number>(2 * static_cast<double>(problem.loss_gradient.load(0)) /
                                            problem.selection.load(1));
  problem.runs.template visit_vectors<Width>(
      [&](std::int64_t image, std::int64_t run, std::int64_t element) {
        const auto t = problem.teacher.data.template load_vector<Width>(
            problem.teacher.offset(image, run, element));
        const auto s = problem.student.data.template load_vector<Width>(
            problem.student.offset(image, run, element));
        Vector<T, Width> result;
        for (int i = 0; i < Width; ++i) {
          const Number teacher = widen(t.values[i]), student = widen(s.values[i]);
          const bool selected = is_selected(squared_difference(teacher, student), threshold);
          result.values[i] = narrow<T>(selected ? factor * (student - teacher) : Number{0});
        }
        problem.gradient.data.store_vector(problem.gradient.offset(image, run, element), result);
      });
}

template <class T, int Width>
Status gradient(const HardFeatureLossGradient& problem, const Runs& runs,
                const Execution& execution) {
  using Number = Accumulator<T>;
  const Gradient<T> parameters{
      runs,
      RunMaps<const T>(problem.teacher),
      RunMaps<const T>(problem.student),
      RunMaps<T>(problem.gradient),
      Global<const Number>(static_cast<const Number*>(problem.loss_gradient), 1),
      Global<const double>(problem.selection, 2)};
  const LaunchShape shape{runs.grid(), kThreads, 0};
  return launch(gradient_kernel<T, Width>, shape, execution, parameters);
}

}  // namespace

std::size_t hard_feature_loss_workspace(const HardFeatureLoss&) {
  return Selection<std::uint64_t>::bytes(1) + PartialSums::kBytes;
}

Status hard_feature_loss(const HardFeatureLoss& problem, const Execution& execution) {
  const Runs runs(problem.teacher, problem.student);
  return for_floating_type(problem.type, [&](auto scalar) {
    using T = decltype(scalar);
    const bool wide = is_vectorizable<T>(runs, problem.teacher, problem.student);
    return wide ? forward<T, kVectorWidth<T>>(problem, runs, execution)
                : forward<T, 1>(problem, runs, execution);
  });
}

Status hard_feature_loss_gradient(const HardFeatureLossGradient& problem,
                                  const Execution& execution) {
  if (problem.gradient.elements() == 0) return kOk;
  const Runs runs(problem.teacher, problem.student, problem.gradient);
  return for_floating_type(problem.type, [&](auto scalar) {
    using T = decltype(scalar);
    const bool wide = is_vectorizable<T>(runs, problem.teacher, problem.student, problem.gradient);
    return wide ? gradient<T, kVectorWidth<T>>(problem, runs, execution)
                : gradient<T, 1>(problem, runs, execution);
  });
}

}  // namespace efficientad::cuda
