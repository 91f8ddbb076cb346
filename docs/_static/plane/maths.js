// Two dimensions, as in ldm/plane: the exact answer of a mixture of Gaussians, drawings, and the samplers' steps.
// tests/docs/test_plane_figure.py compares every function here with the Python that it mirrors.
'use strict';

(plane => {
  const LINE_STD = 0.06, CLOUD_STD = 0.3

  // --- noise levels: ldm/diffusion/level.py ---

  // How point and noise are mixed at time t: on a quarter circle, or on a straight line. `at`: the level of another time.
  const MIXTURES = {
    circle: t => ({
      t, alpha: t < 1 ? Math.cos(Math.PI / 2 * t) : 0, sigma: Math.sin(Math.PI / 2 * t), at: MIXTURES.circle,
    }),
    flow: t => ({t, alpha: 1 - t, sigma: t, at: MIXTURES.flow}),
  }
  const levels = (mixture, count) => Array.from({length: count + 1}, (_, i) => MIXTURES[mixture](1 - i / count))

  // --- the data: ldm/plane/mixture.py ---

  class Mixture {
    // means: [[x, y], ...], all Gaussians with the same weight and the same standard deviation
    constructor(means, std) {
      this.means = means
      this.std = std
      this.powers = new Float64Array(means.length)
    }

    variance(level) { return (level.alpha * this.std) ** 2 + level.sigma ** 2 }

    // Squared distances over twice the variance, and the smallest of them, which keeps the exponentials in range.
    nearest(x, y, level) {
      const {means, powers} = this, twice = 2 * this.variance(level), a = level.alpha
      let least = Infinity
      for (let k = 0; k < means.length; k++) {
        const dx = x - a * means[k][0], dy = y - a * means[k][1]
        powers[k] = (dx * dx + dy * dy) / twice
        if (powers[k] < least) least = powers[k]
      }
      return least
    }

    density(x, y, level) {
      const least = this.nearest(x, y, level)
      let sum = 0
      for (const power of this.powers) sum += Math.exp(least - power)
      return Math.exp(-least) * sum / (2 * Math.PI * this.variance(level) * this.means.length)
    }

    likelyMean(x, y, level) {
      const least = this.nearest(x, y, level), {means, powers} = this
      let sum = 0, mx = 0, my = 0
      for (let k = 0; k < means.length; k++) {
        if (powers[k] - least > 40) continue // less than 1e-17 of the largest
        const weight = Math.exp(least - powers[k])
        sum += weight
        mx += weight * means[k][0]
        my += weight * means[k][1]
      }
      return [mx / sum, my / sum]
    }

    score(x, y, level) {
      const [mx, my] = this.likelyMean(x, y, level), variance = this.variance(level)
      return [(level.alpha * mx - x) / variance, (level.alpha * my - y) / variance]
    }

    // The best guesses [x0, y0, epsX, epsY] of the clean point and of the noise.
    denoise(x, y, level) {
      const [mx, my] = this.likelyMean(x, y, level), variance = this.variance(level)
      const ax = (x - level.alpha * mx) / variance, ay = (y - level.alpha * my) / variance
      const inner = level.alpha * this.std ** 2
      return [mx + inner * ax, my + inner * ay, level.sigma * ax, level.sigma * ay]
    }

    draw(random) {
      const [x, y] = this.means[Math.floor(random.uniform() * this.means.length)]
      return [x + this.std * random.normal(), y + this.std * random.normal()]
    }
  }

  const join = parts => new Mixture(parts.flatMap(part => part.means), parts[0].std)

  // --- drawings: ldm/plane/shapes.py ---

  // The line through these points as Gaussians `std` apart; null if it has no length.
  function line(points, std = LINE_STD) {
    const ends = [0], kept = [points[0]]
    for (const point of points.slice(1)) {
      const last = kept[kept.length - 1], length = Math.hypot(point[0] - last[0], point[1] - last[1])
      if (!length) continue
      kept.push(point)
      ends.push(ends[ends.length - 1] + length)
    }
    const total = ends[ends.length - 1]
    if (!total) return null
    const count = Math.max(2, Math.round(total / std) + 1), means = []
    for (let i = 0, segment = 0; i < count; i++) {
      const place = total * i / (count - 1)
      while (segment < kept.length - 2 && ends[segment + 1] <= place) segment++
      const fraction = (place - ends[segment]) / (ends[segment + 1] - ends[segment])
      const [[ax, ay], [bx, by]] = [kept[segment], kept[segment + 1]]
      means.push([ax + fraction * (bx - ax), ay + fraction * (by - ay)])
    }
    return new Mixture(means, std)
  }

  const curve = at => line(Array.from({length: 201}, (_, i) => at(i / 200)))
  const arc = (x, y, radius, start, end) => curve(u => {
    const angle = 2 * Math.PI * (start + u * (end - start))
    return [x + radius * Math.cos(angle), y + radius * Math.sin(angle)]
  })
  const turns = (start, end) => curve(u => {
    const turn = start + u * (end - start), angle = 2 * Math.PI * turn
    return [turn * Math.cos(angle), turn * Math.sin(angle)]
  })

  const SHAPES = {
    face: () => [
      arc(0, 0, 1.75, 0, 1), join([arc(-0.6, 0.5, 0.18, 0, 1), arc(0.6, 0.5, 0.18, 0, 1)]), arc(0, 0, 1, 0.56, 0.94),
    ],
    moons: () => [arc(-0.55, -0.3, 1.15, 0, 0.5), arc(0.55, 0.3, 1.15, 0.5, 1)],
    spiral: () => [turns(0.3, 1.15), turns(1.15, 1.9)],
    clouds: () => [0, 1, 2].map(i => {
      const angle = 2 * Math.PI * (0.25 + i / 3)
      return new Mixture([[1.4 * Math.cos(angle), 1.4 * Math.sin(angle)]], CLOUD_STD)
    }),
  }

  // --- guidance and samplers: ldm/diffusion/guidance.py, samplers/euler.py and samplers/euler_ancestral.py ---

  // A denoiser (x, y, level) -> [x0, y0, epsX, epsY] of two.
  const guided = (uncond, cond, scale) => (x, y, level) => {
    const without = uncond(x, y, level), withPart = cond(x, y, level)
    return without.map((value, i) => value + scale * (withPart[i] - value))
  }

  const euler = ([x0, y0, ex, ey], level, next) =>
    [next.alpha * x0 + next.sigma * ex, next.alpha * y0 + next.sigma * ey]

  function eulerAncestral([x0, y0, ex, ey], level, next, [zx, zy]) {
    const down = next.sigma * (level.alpha * next.sigma) / (next.alpha * level.sigma)
    const up = Math.sqrt(next.sigma ** 2 - down ** 2)
    return [next.alpha * x0 + down * ex + up * zx, next.alpha * y0 + down * ey + up * zy]
  }

  // Follow points through the levels: for each level the points there, and the guesses made there (none at the last).
  function sample(denoise, starts, levels, random = null) {
    const stages = []
    let points = starts
    for (let i = 0; i + 1 < levels.length; i++) {
      const guesses = points.map(([x, y]) => denoise(x, y, levels[i]))
      stages.push({level: levels[i], points, guesses})
      points = guesses.map(guess => random
        ? eulerAncestral(guess, levels[i], levels[i + 1], [random.normal(), random.normal()])
        : euler(guess, levels[i], levels[i + 1]))
    }
    stages.push({level: levels[levels.length - 1], points, guesses: null})
    return stages
  }

  // Random numbers that are the same for the same seed (the generator mulberry32, and Box and Muller's normal numbers).
  function makeRandom(seed) {
    let state = seed >>> 0
    const uniform = () => {
      state = (state + 0x6d2b79f5) >>> 0
      let z = state
      z = Math.imul(z ^ (z >>> 15), z | 1)
      z ^= z + Math.imul(z ^ (z >>> 7), z | 61)
      return ((z ^ (z >>> 14)) >>> 0) / 4294967296
    }
    const normal = () => Math.sqrt(-2 * Math.log(1 - uniform())) * Math.cos(2 * Math.PI * uniform())
    return {uniform, normal}
  }

  Object.assign(plane, {
    LINE_STD, MIXTURES, SHAPES, Mixture, euler, eulerAncestral, guided, join, levels, line, makeRandom, sample,
  })
})(globalThis.plane ??= {})
