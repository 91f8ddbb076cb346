// The places of points between the levels that were sampled, from what `sample` kept.
'use strict';

(plane => {
  const BETWEEN = 6 // places of a path in each step

  // The first `count` points at time t. A step of Euler's keeps its guesses on its way to the next level, so the way is
  // known: a part of an ellipse, or a straight line. A step with fresh noise has no way; its two ends are joined by a straight line.
  function pointsAt(stages, t, straight, count = Infinity) {
    const i = Math.max(0, stages.findIndex(({level}) => level.t <= t + 1e-9))
    const stage = stages[i], before = stages[i - 1], points = stage.points.slice(0, count)
    if (!before || stage.level.t >= t) return points
    const level = before.level.at(t), share = (t - stage.level.t) / (before.level.t - stage.level.t)
    return points.map(([x, y], p) => straight
      ? [x + share * (before.points[p][0] - x), y + share * (before.points[p][1] - y)]
      : plane.euler(before.guesses[p], before.level, level))
  }

  // The paths of the first `count` points, from pure noise to time t.
  function pathsTo(stages, t, straight, count) {
    const times = []
    for (let i = 0; i + 1 < stages.length; i++) {
      const [from, to] = [stages[i].level.t, stages[i + 1].level.t]
      for (let k = 0; k < BETWEEN; k++) times.push(from + k / BETWEEN * (to - from))
    }
    const columns = [...times.filter(time => time > t), t].map(time => pointsAt(stages, time, straight, count))
    return Array.from({length: count}, (_, p) => columns.map(points => points[p]))
  }

  Object.assign(plane, {pathsTo, pointsAt})
})(globalThis.plane ??= {})
