// What points into the picture: a probe, or in a drawing a pen. Mouse, finger and keyboard do the same.
'use strict';

(plane => {
  const STEP = 0.1 // of an arrow key
  const WAYS = {ArrowLeft: [-STEP, 0], ArrowRight: [STEP, 0], ArrowUp: [0, STEP], ArrowDown: [0, -STEP]}

  const inside = point => point.map(value => Math.max(STEP - plane.REACH, Math.min(plane.REACH - STEP, value)))

  class Pen {
    constructor(figure) {
      this.figure = figure
      this.place = null // where it is, if it is anywhere
      this.down = false // whether it draws
      const canvas = figure.canvas
      canvas.addEventListener('pointerdown', event => this.press(event))
      canvas.addEventListener('pointermove', event => this.move(event))
      canvas.addEventListener('pointerup', () => this.lift())
      canvas.addEventListener('pointercancel', () => this.lift())
      canvas.addEventListener('pointerleave', event => {
        if (event.pointerType === 'mouse' && !this.down) this.place = null
        figure.paint()
      })
      canvas.addEventListener('keydown', event => this.key(event))
    }

    press(event) {
      this.place = inside(this.figure.drawing.from(event))
      if (this.figure.shape === 'draw') {
        event.preventDefault()
        this.figure.canvas.setPointerCapture(event.pointerId)
        this.lower()
      }
      this.figure.paint()
    }

    move(event) {
      if (this.down) {
        const all = event.getCoalescedEvents?.() ?? []
        for (const each of all.length ? all : [event]) this.extend(this.figure.drawing.from(each))
      } else if (event.pointerType === 'mouse') this.place = this.figure.drawing.from(event)
      this.figure.paint()
    }

    lower() {
      this.place ||= [0, 0]
      this.down = true
      this.figure.strokes.push([this.place])
    }

    extend(point) {
      this.place = inside(point)
      this.figure.strokes.at(-1).push(this.place)
    }

    lift() {
      if (!this.down) return
      this.down = false
      this.place = null
      this.figure.takeShape()
    }

    key(event) {
      const way = WAYS[event.key], [x, y] = this.place || [0, 0]
      if (way && this.down) this.extend([x + way[0], y + way[1]])
      else if (way) this.place = inside([x + way[0], y + way[1]])
      else if (event.key === ' ' && this.figure.shape === 'draw') this.down ? this.lift() : this.lower()
      else if (event.key === 'Escape') this.place = null
      else return
      event.preventDefault()
      this.figure.paint()
      this.figure.say()
    }
  }

  plane.Pen = Pen
})(globalThis.plane ??= {})
