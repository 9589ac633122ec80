#include "bindings/plan_module.h"

#include <pybind11/stl.h>

#include <array>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "bindings/call.h"
#include "engine/plan.h"
#include "engine/weights.h"

namespace py = pybind11;

namespace efficientad::bindings {
namespace {

using engine::Buffer;
using engine::Phase;
using engine::Plan;
using engine::Weights;

ScalarType type_named(const std::string& name) {
  if (name == "float64") return ScalarType::float64;
  if (name == "float32") return ScalarType::float32;
  if (name == "float16") return ScalarType::float16;
  if (name == "bfloat16") return ScalarType::bfloat16;
  if (name == "uint8") return ScalarType::uint8;
  throw py::value_error("there is no element type of that name");
}

engine::FeatureSource feature_source_named(const std::string& name) {
  if (name == "student") return engine::FeatureSource::student;
  if (name == "teacher") return engine::FeatureSource::teacher;
  throw py::value_error("there is no network of that name to take PUAD's feature from");
}

Phase phase_named(const std::string& name) {
  if (name == "image") return Phase::image;
  if (name == "networks") return Phase::networks;
  if (name == "autoencoder") return Phase::autoencoder;
  if (name == "local_map") return Phase::local_map;
  if (name == "global_map") return Phase::global_map;
  if (name == "features") return Phase::features;
  throw py::value_error("there is no phase of that name");
}

// A dense float32 tensor in the host's memory.
const float* parameter(const Tensor& tensor) {
  if (tensor.device != Device::cpu || tensor.type != ScalarType::float32) {
    throw py::type_error("expected parameters of float32 in the CPU's memory");
  }
  return static_cast<const float*>(dense_data(tensor));
}

using Parameters = std::vector<std::pair<py::object, py::object>>;  // weight, bias

engine::Network network(const Parameters& parameters) {
  require(!parameters.empty(), "a network has no layers");
  engine::Network result;
  for (const auto& [weight, bias] : parameters) {
    const Tensor w = tensor_from_python(weight);
    const Tensor b = tensor_from_python(bias);
    require(w.dimensions == 4 && w.shape[2] == w.shape[3] && b.dimensions == 1 &&
                b.shape[0] == w.shape[0],
            "expected square convolutions with bias");
    result.push_back(
        {parameter(w), parameter(b), w.shape[0], w.shape[1], static_cast<int>(w.shape[2])});
  }
  return result;
}

const float* statistic(py::handle object, std::int64_t channels) {
  const Tensor tensor = tensor_from_python(object);
  require(tensor.elements() == channels, "expected one number for each of the teacher's channels");
  return parameter(tensor);
}

py::bytearray uninitialised(std::int64_t bytes) {
  PyObject* const memory = PyByteArray_FromStringAndSize(nullptr, bytes);
  if (memory == nullptr) throw py::error_already_set();
  return py::reinterpret_steal<py::bytearray>(memory);
}

using Colour = std::array<double, 3>;

auto weight_packer(const Backend& backend) {
  return [&backend](const Parameters& teacher, const Parameters& student,
                    const Parameters& autoencoder, py::handle teacher_mean,
                    py::handle teacher_deviation, const Colour& image_mean,
                    const Colour& image_deviation, const std::string& feature_source,
                    const std::string& type, bool tf32) {
    engine::Model model{network(teacher),
                        network(student),
                        network(autoencoder),
                        nullptr,
                        nullptr,
                        {},
                        feature_source_named(feature_source)};
    const std::int64_t channels = model.teacher.back().output_channels;
    model.teacher_mean = statistic(teacher_mean, channels);
    model.teacher_deviation = statistic(teacher_deviation, channels);
    for (std::size_t channel = 0; channel < 3; ++channel) {
      model.normalisation.mean[channel] = image_mean[channel];
      model.normalisation.deviation[channel] = image_deviation[channel];
    }
    const engine::Precision precision{type_named(type), tf32};
    engine::PackedWeights packed;
    {
      py::gil_scoped_release release;
      packed = engine::pack(model, precision, backend);
    }
    py::bytearray memory = uninitialised(packed.weights.bytes);
    char* to = PyByteArray_AS_STRING(memory.ptr());
    for (const engine::Array& array : packed.arrays) {
      std::memcpy(to + array.offset, array.bytes.data(), array.bytes.size());
    }
    return py::make_tuple(std::move(packed.weights), std::move(memory));
  };
}

// A plan and where its backend's tensors live.
class BoundPlan {
 public:
  BoundPlan(const Weights& weights, const engine::Request& request, const Target& target)
      : plan_(weights, request, *target.backend), target_(target) {}

  const Plan& plan() const { return plan_; }

  void run(std::int64_t context, const std::string& phase_name, py::handle weights,
           py::handle workspace, py::handle image) const {
    Call call(target_);
    const Phase phase = phase_named(phase_name);
    const engine::Memory memory{memory_of(call, weights, plan_.weights().bytes),
                                memory_of(call, workspace, plan_.workspace_bytes()),
                                phase == Phase::image ? image_data(call, image) : nullptr};
    call.launch([&](const Execution& execution) { return plan_.run(phase, execution, memory); },
                context);
  }

  void combine(std::int64_t context, py::handle workspace, const Axis& local_quantiles,
               const Axis& global_quantiles, const Axis& rows, const Axis& columns, py::handle map,
               py::handle score) const {
    Call call(target_);
    const char* memory = memory_of(call, workspace, plan_.workspace_bytes());
    NormalizeAndCombine problem{};
    problem.local_quantiles = {local_quantiles.first, local_quantiles.second};
    problem.global_quantiles = {global_quantiles.first, global_quantiles.second};
    problem.rows = resampling_axis(rows);
    problem.columns = resampling_axis(columns);
    const std::int64_t batch = plan_.request().batch;
    const Tensor output = call.tensor(map);
    require(output.dimensions == 4 && output.type == plan_.accumulator_type() &&
                output.shape[0] == batch && output.shape[1] == 1,
            "the output does not fit the plan");
    problem.output_height = output.shape[2];
    problem.output_width = output.shape[3];
    problem.map = dense_data(output);
    problem.score = dense_data(call.tensor(score, plan_.accumulator_type(), batch));
    call.launch(
        [&](const Execution& execution) { return plan_.combine(problem, execution, memory); },
        context);
  }

 private:
  static char* memory_of(Call& call, py::handle object, std::int64_t bytes) {
    const Tensor tensor = call.tensor(object);
    require(tensor.type == ScalarType::uint8 && tensor.elements() >= bytes,
            "the plan needs more memory than it was given");
    char* data = static_cast<char*>(dense_data(tensor));
    require(reinterpret_cast<std::uintptr_t>(data) % engine::kAlignment == 0,
            "the plan's memory is not aligned");
    return data;
  }

  const void* image_data(Call& call, py::handle object) const {
    const engine::Request& request = plan_.request();
    const Tensor image =
        call.tensor(object, request.image_type, 3 * request.batch * request.height * request.width);
    return dense_data(image);
  }

  Plan plan_;
  Target target_;
};

}  // namespace

void bind_plan_classes(py::module_& module) {
  module.attr("plan_alignment") = engine::kAlignment;
  py::class_<Weights>(module, "Weights", py::module_local());
  py::class_<BoundPlan>(module, "Plan", py::module_local())
      .def_property_readonly("workspace_bytes",
                             [](const BoundPlan& self) { return self.plan().workspace_bytes(); })
      .def_property_readonly("grid",
                             [](const BoundPlan& self) {
                               return std::pair(self.plan().grid_height(),
                                                self.plan().grid_width());
                             })
      .def_property_readonly("planes", [](const BoundPlan& self) { return self.plan().planes(); })
      .def_property_readonly(
          "local_planes",
          [](const BoundPlan& self) { return self.plan().offset(Buffer::local_planes); })
      .def_property_readonly(
          "global_planes",
          [](const BoundPlan& self) { return self.plan().offset(Buffer::global_planes); })
      .def_property_readonly(
          "features", [](const BoundPlan& self) { return self.plan().offset(Buffer::features); })
      .def("run", &BoundPlan::run)
      .def("combine", &BoundPlan::combine);
}

void bind_plan(py::module_& module, const Target& target) {
  module.def("pack_weights", weight_packer(*target.backend));
  // (panel, interleave) of a WeightLayout.
  module.def("weight_layout", [target](const std::string& type) {
    const WeightLayout layout = target.backend->weight_layout(type_named(type));
    return std::pair(layout.panel, layout.interleave);
  });
  module.def("plan", [target](const Weights& weights, std::int64_t batch, std::int64_t height,
                              std::int64_t width, const std::string& image_type, bool features) {
    const engine::Request request{batch, height, width, type_named(image_type), features};
    return std::make_unique<BoundPlan>(weights, request, target);
  });
}

}  // namespace efficientad::bindings
