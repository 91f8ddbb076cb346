// Everything that is painted on the canvas; nothing is computed here but places.
'use strict';

(plane => {
  const REACH = 3 // the canvas shows the plane from -REACH to REACH, both ways
  const GRID = 17, LONGEST = 0.3, HEAT = 54

  class Drawing {
    constructor(canvas) {
      this.canvas = canvas
      this.context = canvas.getContext('2d')
      this.heat = document.createElement('canvas')
      this.heat.width = this.heat.height = HEAT
    }

    // Takes the size on the page and the colours of the theme. Call it first.
    begin() {
      const side = this.canvas.clientWidth, ratio = window.devicePixelRatio || 1
      if (this.canvas.width !== Math.round(side * ratio)) this.canvas.width = this.canvas.height = Math.round(side * ratio)
      const style = getComputedStyle(this.canvas)
      this.colour = name => style.getPropertyValue(`--plane-${name}`).trim()
      this.unit = side / (2 * REACH)
      this.context.setTransform(ratio, 0, 0, ratio, 0, 0)
      this.context.clearRect(0, 0, side, side)
      this.context.lineCap = this.context.lineJoin = 'round'
    }

    at(x, y) { return [(x + REACH) * this.unit, (REACH - y) * this.unit] }

    from(event) {
      const box = this.canvas.getBoundingClientRect(), unit = box.width / (2 * REACH)
      return [(event.clientX - box.left) / unit - REACH, REACH - (event.clientY - box.top) / unit]
    }

    // Where noisy points are dense, as a tint.
    density(mixture, level) {
      const key = [level.t, level.alpha, this.colour('data')].join()
      if (this.tinted !== mixture || this.key !== key) this.tint(mixture, level)
      this.tinted = mixture
      this.key = key
      this.context.imageSmoothingEnabled = true
      this.context.imageSmoothingQuality = 'high'
      this.context.drawImage(this.heat, 0, 0, 2 * REACH * this.unit, 2 * REACH * this.unit)
    }

    tint(mixture, level) {
      const context = this.heat.getContext('2d'), image = context.createImageData(HEAT, HEAT)
      const values = new Float64Array(HEAT * HEAT)
      for (let j = 0; j < HEAT; j++)
        for (let i = 0; i < HEAT; i++)
          values[j * HEAT + i] = mixture.density(
            ((i + 0.5) / HEAT * 2 - 1) * REACH, (1 - (j + 0.5) / HEAT * 2) * REACH, level)
      const most = values.reduce((a, b) => Math.max(a, b)), [r, g, b] = rgb(this.colour('data'))
      values.forEach((value, i) => image.data.set([r, g, b, 95 * Math.sqrt(value / most)], 4 * i))
      context.putImageData(image, 0, 0)
    }

    // The arrows -eps of a denoiser on a grid; lengths above 1 are compressed.
    field(denoise, level, colour, width) {
      const context = this.context
      context.strokeStyle = context.fillStyle = this.colour(colour)
      context.lineWidth = width
      for (let i = 0; i < GRID; i++)
        for (let j = 0; j < GRID; j++) {
          const [x, y] = [i, j].map(n => (2 * (n + 0.5) / GRID - 1) * REACH)
          const [, , ex, ey] = denoise(x, y, level), length = Math.hypot(ex, ey)
          if (length < 1e-6) continue
          const size = LONGEST * Math.tanh(length) / length
          this.arrow(this.at(x, y), this.at(x - size * ex, y - size * ey), width)
        }
    }

    arrow([ax, ay], [bx, by], width) {
      const context = this.context, length = Math.hypot(bx - ax, by - ay), head = Math.min(3 + 1.4 * width, 0.6 * length)
      const ux = (bx - ax) / length, uy = (by - ay) / length
      context.beginPath()
      context.moveTo(ax, ay)
      context.lineTo(bx - head * 0.7 * ux, by - head * 0.7 * uy)
      context.stroke()
      context.beginPath()
      context.moveTo(bx, by)
      context.lineTo(bx - head * ux + head * 0.45 * uy, by - head * uy - head * 0.45 * ux)
      context.lineTo(bx - head * ux - head * 0.45 * uy, by - head * uy + head * 0.45 * ux)
      context.fill()
    }

    path(places, colour, width) {
      const context = this.context
      context.strokeStyle = this.colour(colour)
      context.lineWidth = width
      context.beginPath()
      for (const [x, y] of places) context.lineTo(...this.at(x, y))
      context.stroke()
    }

    dots(places, colour, radius, outline = null) {
      const context = this.context
      context.fillStyle = this.colour(colour)
      context.lineWidth = 1.5
      for (const [x, y] of places) {
        context.beginPath()
        context.arc(...this.at(x, y), radius, 0, 2 * Math.PI)
        context.fill()
        if (outline) {
          context.strokeStyle = this.colour(outline)
          context.stroke()
        }
      }
    }

    // From a place to the best guess of where it came from.
    probe(place, guess) {
      this.context.strokeStyle = this.context.fillStyle = this.colour('probe')
      this.context.lineWidth = 2
      if (Math.hypot(guess[0] - place[0], guess[1] - place[1]) > 0.03) this.arrow(this.at(...place), this.at(...guess), 2.4)
      this.dots([place], 'paper', 4, 'probe')
    }
  }

  // "#2f6fc0" or "rgb(1, 2, 3)" as numbers.
  function rgb(colour) {
    if (colour[0] !== '#') return colour.match(/\d+/g).slice(0, 3).map(Number)
    return [1, 3, 5].map(i => parseInt(colour.slice(i, i + 2), 16))
  }

  // The loss, as a small curve: the mean of a few steps at each place.
  function lossCurve(canvas, losses, steps, colour) {
    const width = canvas.clientWidth, height = canvas.clientHeight, ratio = window.devicePixelRatio || 1
    canvas.width = Math.round(width * ratio)
    canvas.height = Math.round(height * ratio)
    const context = canvas.getContext('2d'), size = Math.max(1, Math.round(steps / 70)), means = []
    for (let i = 0; i + size <= losses.length; i += size)
      means.push(losses.slice(i, i + size).reduce((a, b) => a + b) / size)
    if (means.length < 2) return
    const top = Math.max(...means), bottom = Math.min(...means)
    context.setTransform(ratio, 0, 0, ratio, 0, 0)
    context.strokeStyle = colour
    context.lineWidth = 1.5
    context.lineJoin = 'round'
    context.beginPath()
    means.forEach((mean, i) => context.lineTo(
      (i + 1) * size / steps * width, 3 + (height - 6) * (1 - (mean - bottom) / Math.max(top - bottom, 1e-6))))
    context.stroke()
  }

  Object.assign(plane, {Drawing, REACH, lossCurve})
})(globalThis.plane ??= {})
