// Routings for tests.
#pragma once

#include "core/routing.h"
#include "support.h"

namespace ivfremote {

// As training ends: with rounded centroids.
inline Routing RandomRouting(Random& random, Metric metric, uint32_t dimensions, uint32_t lists, uint32_t groups) {
  Routing routing;
  routing.dimensions = dimensions;
  routing.metric = metric;
  routing.mean = UniformVector(random, dimensions);
  routing.radii = UniformVector(random, lists);
  for (float& radius : routing.radii) radius = std::abs(radius);
  for (uint32_t g = 0; g <= groups; ++g)
    routing.group_first.push_back(static_cast<uint32_t>(uint64_t{lists} * g / groups));
  routing.group_centroids = UniformVector(random, size_t{groups} * dimensions);
  routing.centroids = UniformVector(random, size_t{lists} * dimensions);
  RoundCentroids(&routing);
  return routing;
}

inline void CodeAll(uint64_t seed, Routing* routing) {
  StartCodes(seed, routing);
  for (uint32_t g = 0; g < routing->group_count(); ++g) CodeGroup(g, routing);
}

// Groups of lists that lie near each other, which is what training makes of rows in clusters: centres of groups, and lists
// `width` times as near to them as these are to each other.
inline Routing ClusteredRouting(Random& random, Metric metric, uint32_t dimensions, uint32_t lists, uint32_t groups,
                                float width) {
  Routing routing = RandomRouting(random, metric, dimensions, lists, groups);
  for (uint32_t g = 0; g < groups; ++g)
    for (uint32_t list = routing.group_first[g]; list < routing.group_first[g + 1]; ++list)
      for (uint32_t j = 0; j < dimensions; ++j) {
        float* value = &routing.centroids[size_t{list} * dimensions + j];
        *value = routing.group_centroids[size_t{g} * dimensions + j] + width * *value;
      }
  RoundCentroids(&routing);
  return routing;
}

}  // namespace ivfremote
