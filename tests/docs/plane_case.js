// What the Python side of test_plane_figure.py compares: one function of everything, for node and for a browser.
function computed({means, std, points, noises, scale, parts, weights, biases, examples}) {
  const levels = plane.levels('circle', 4), [here, next] = [levels[1], levels[2]]
  const flow = plane.levels('flow', 4)
  const mixture = new plane.Mixture(means, std), part = new plane.Mixture(means.slice(0, 2), std)
  const of = one => (x, y, level) => one.denoise(x, y, level)
  const guesses = points.map(([x, y]) => mixture.denoise(x, y, here))
  const field = new plane.Field(parts, plane.makeRandom(0))
  field.weights = weights.map(w => Float64Array.from(w))
  field.biases = biases.map(b => Float64Array.from(b))
  const [loss, gradient] = field.lossAndGradient(examples)
  const trainer = new plane.Trainer(field, [part, part], 10, plane.makeRandom(0))
  trainer.example = () => examples[trainer.count++ % examples.length]
  trainer.batch = examples.length
  const read = (kind, x, y) => field.denoiser(kind)(x, y, here)
  const untrained = Object.assign(new plane.Field(parts, plane.makeRandom(0)), {
    weights: field.weights.map(w => w.slice()), biases: field.biases.map(b => b.slice()),
  })
  const before = points.map(([x, y]) => read(0, x, y))
  trainer.count = 0
  for (let i = 0; i < 3; i++) trainer.advance()
  return {
    levels: levels.map(({t, alpha, sigma}) => [t, alpha, sigma]),
    flow: flow.map(({t, alpha, sigma}) => [t, alpha, sigma]),
    density: points.map(([x, y]) => Math.log(mixture.density(x, y, here))),
    score: points.map(([x, y]) => mixture.score(x, y, here)),
    guesses,
    guided: points.map(([x, y]) => plane.guided(of(mixture), of(part), scale)(x, y, here)),
    euler: guesses.map(guess => plane.euler(guess, here, next)),
    ancestral: guesses.map((guess, i) => plane.eulerAncestral(guess, here, next, noises[i])),
    ends: plane.sample(of(mixture), points, levels).at(-1).points,
    flowEnds: plane.sample(of(mixture), points, flow).at(-1).points,
    shapes: Object.fromEntries(
      Object.entries(plane.SHAPES).map(([name, shape]) => [name, shape().map(one => [one.std, one.means])])),
    bent: plane.line([[0, 0], [0, 0], [0.3, 0], [0.3, 0.41]]).means,
    count: field.count,
    loss,
    gradient: gradient.flat().map(one => [...one]),
    learned: before,
    learnedInFlow: points.map(([x, y]) => untrained.denoiser(0)(x, y, flow[1])),
    trained: field.weights.map(one => [...one]),
  }
}
