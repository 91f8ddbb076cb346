// The small network of ldm/plane/field.py, its gradient written out, and its training: no library does this here.
// tests/docs/test_plane_figure.py compares outputs, loss and gradient with PyTorch's.
'use strict';

(plane => {
  const FREQUENCIES = [1, 3, 6], WIDTH = 64, NO_LABEL = 0.2
  const INPUTS = 2 + 4 * FREQUENCIES.length + 2 // and one for each part of the data

  const sigmoid = z => 1 / (1 + Math.exp(-z))

  class Field {
    constructor(parts, random) {
      this.parts = parts
      this.sizes = [INPUTS + parts, WIDTH, WIDTH, 2]
      // PyTorch's way to begin: uniform, by the number of inputs. Weights are [outputs, inputs], row by row.
      const uniform = (count, inputs) =>
        Float64Array.from({length: count}, () => (2 * random.uniform() - 1) / Math.sqrt(inputs))
      this.weights = [0, 1, 2].map(i => uniform(this.sizes[i + 1] * this.sizes[i], this.sizes[i]))
      this.biases = [0, 1, 2].map(i => uniform(this.sizes[i + 1], this.sizes[i]))
    }

    get count() {
      return [...this.weights, ...this.biases].reduce((sum, values) => sum + values.length, 0)
    }

    // What the network is told of a point, written into `into` from `start` on. `part`: a number, or -1 for all.
    tell(x, y, t, part, into, start) {
      let i = start
      into[i++] = x
      into[i++] = y
      for (const f of FREQUENCIES) {
        into[i++] = Math.sin(f * x)
        into[i++] = Math.sin(f * y)
        into[i++] = Math.cos(f * x)
        into[i++] = Math.cos(f * y)
      }
      into[i++] = t
      into[i++] = Math.log(t + 0.02)
      for (let k = 0; k < this.parts; k++) into[i++] = k === part ? 1 : 0
    }

    // All layers for `n` points; keeps what the gradient needs. Returns the last layer's outputs, two a point.
    forward(inputs, n) {
      this.kept = [{h: inputs}]
      let h = inputs
      for (let layer = 0; layer < 3; layer++) {
        const ins = this.sizes[layer], outs = this.sizes[layer + 1]
        const w = this.weights[layer], b = this.biases[layer], z = new Float64Array(n * outs)
        for (let p = 0; p < n; p++)
          for (let j = 0; j < outs; j++) {
            let sum = b[j]
            const from = p * ins, row = j * ins
            for (let i = 0; i < ins; i++) sum += w[row + i] * h[from + i]
            z[p * outs + j] = sum
          }
        h = layer < 2 ? z.map(value => value * sigmoid(value)) : z // SiLU between the layers
        this.kept.push({z, h})
      }
      return h
    }

    // The gradient of a loss whose derivative by the outputs is `d`: [weights' gradients, biases' gradients].
    backward(d, n) {
      const weights = [], biases = []
      for (let layer = 2; layer >= 0; layer--) {
        const ins = this.sizes[layer], outs = this.sizes[layer + 1], w = this.weights[layer]
        const {h, z} = this.kept[layer]
        const dw = new Float64Array(w.length), db = new Float64Array(outs), dh = new Float64Array(n * ins)
        for (let p = 0; p < n; p++)
          for (let j = 0; j < outs; j++) {
            const slope = d[p * outs + j], from = p * ins, row = j * ins
            db[j] += slope
            for (let i = 0; i < ins; i++) {
              dw[row + i] += slope * h[from + i]
              dh[from + i] += slope * w[row + i]
            }
          }
        weights[layer] = dw
        biases[layer] = db
        if (layer) // through SiLU
          for (let i = 0; i < dh.length; i++) {
            const s = sigmoid(z[i])
            dh[i] *= s * (1 + z[i] * (1 - s))
          }
        d = dh
      }
      return [weights, biases]
    }

    // The mean squared error of the velocity for examples {x0, eps, t, part}, and its gradient.
    lossAndGradient(examples) {
      const n = examples.length, width = this.sizes[0], inputs = new Float64Array(n * width)
      const target = new Float64Array(2 * n)
      examples.forEach(({x0, eps, t, part}, p) => {
        const alpha = Math.cos(Math.PI / 2 * t), sigma = Math.sin(Math.PI / 2 * t)
        this.tell(alpha * x0[0] + sigma * eps[0], alpha * x0[1] + sigma * eps[1], t, part, inputs, p * width)
        for (const i of [0, 1]) target[2 * p + i] = alpha * eps[i] - sigma * x0[i]
      })
      const error = this.forward(inputs, n).map((out, i) => out - target[i])
      const loss = error.reduce((sum, e) => sum + e * e, 0) / (2 * n)
      return [loss, this.backward(error.map(e => e / n), n)]
    }

    // The field as a denoiser (x, y, level) -> [x0, y0, epsX, epsY]. It was learned on the circle; a point of any other
    // mixture is a point of the circle, scaled by `size`.
    denoiser(part = -1) {
      const inputs = new Float64Array(this.sizes[0])
      return (x, y, level) => {
        const size = Math.hypot(level.alpha, level.sigma), alpha = level.alpha / size, sigma = level.sigma / size
        const [cx, cy] = [x / size, y / size]
        this.tell(cx, cy, 2 / Math.PI * Math.atan2(sigma, alpha), part, inputs, 0)
        const [vx, vy] = this.forward(inputs, 1)
        return [alpha * cx - sigma * vx, alpha * cy - sigma * vy, sigma * cx + alpha * vx, sigma * cy + alpha * vy]
      }
    }
  }

  // Adam (Kingma & Ba 2015), with a learning rate that falls along half a cosine.
  class Trainer {
    constructor(field, parts, steps, random, batch = 192) {
      Object.assign(this, {field, parts, steps, random, batch, step: 0, losses: []})
      this.whole = plane.join(parts)
      this.groups = [...field.weights, ...field.biases]
      this.means = this.groups.map(group => new Float64Array(group.length))
      this.squares = this.groups.map(group => new Float64Array(group.length))
    }

    // A point of the data with its noise and its time. Parts come up as often as they have Gaussians.
    example() {
      const {random, parts} = this
      let which = Math.floor(random.uniform() * this.whole.means.length), part = 0
      while (which >= parts[part].means.length) which -= parts[part++].means.length
      const told = random.uniform() > NO_LABEL ? part : -1
      return {
        x0: parts[part].draw(random), eps: [random.normal(), random.normal()], t: random.uniform(), part: told,
      }
    }

    // One step of training; returns the loss.
    advance() {
      const [loss, [weights, biases]] = this.field.lossAndGradient(Array.from({length: this.batch}, () => this.example()))
      const rate = 5e-3 * (1 + Math.cos(Math.PI * this.step / this.steps))
      const first = 1 - 0.9 ** (this.step + 1), second = 1 - 0.999 ** (this.step + 1)
      const gradients = [...weights, ...biases]
      this.groups.forEach((group, g) => {
        const mean = this.means[g], square = this.squares[g], gradient = gradients[g]
        for (let i = 0; i < group.length; i++) {
          mean[i] += 0.1 * (gradient[i] - mean[i])
          square[i] += 0.001 * (gradient[i] * gradient[i] - square[i])
          group[i] -= rate * (mean[i] / first) / (Math.sqrt(square[i] / second) + 1e-8)
        }
      })
      this.step++
      this.losses.push(loss)
      return loss
    }

    get done() { return this.step >= this.steps }
  }

  Object.assign(plane, {Field, Trainer})
})(globalThis.plane ??= {})
