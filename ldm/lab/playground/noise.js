"use strict";
// Where the noise comes from: torch's CPU generator in JavaScript, so a seed gives the same noise as in
// ldm/diffusion/noise.py, up to the last digit.
//
// torch draws whole numbers with the Mersenne Twister (Matsumoto & Nishimura 1998), makes fractions in [0, 1) of their
// lowest 24 bits, and pairs of those into normal numbers by the Box-Muller transform, sixteen at a time.

class TorchGenerator {
  constructor(seed) {
    this.state = new Uint32Array(624);
    this.state[0] = seed;
    for (let i = 1; i < 624; i++) {
      const last = this.state[i - 1];
      this.state[i] = Math.imul(1812433253, last ^ (last >>> 30)) + i;
    }
    this.next = 624;
  }

  twist() {
    const s = this.state;
    for (let i = 0; i < 624; i++) {
      const mixed = (s[i] & 0x80000000) | (s[(i + 1) % 624] & 0x7fffffff);
      s[i] = s[(i + 397) % 624] ^ (mixed >>> 1) ^ (mixed & 1 ? 0x9908b0df : 0);
    }
    this.next = 0;
  }

  // A whole number in [0, 2**32).
  bits() {
    if (this.next === 624) this.twist();
    let y = this.state[this.next++];
    y ^= y >>> 11;
    y ^= (y << 7) & 0x9d2c5680;
    y ^= (y << 15) & 0xefc60000;
    return (y ^ (y >>> 18)) >>> 0;
  }

  // torch.randn(count): standard normal numbers. Fewer than 16 torch draws in another way, and no latent is so small.
  randn(count) {
    if (count < 16) throw new Error(`${count} random numbers; expected at least 16`);
    const x = Float32Array.from({ length: count }, () => this.fraction());
    for (let i = 0; i + 16 <= count; i += 16) boxMuller(x.subarray(i, i + 16));
    if (count % 16) { // the last sixteen are drawn anew
      const last = x.subarray(count - 16);
      last.forEach((_, i) => { last[i] = this.fraction(); });
      boxMuller(last);
    }
    return x;
  }

  fraction() {
    return (this.bits() & 0xffffff) / 0x1000000;
  }
}

// Sixteen fractions become sixteen normal numbers: the first eight give radii, the last eight angles.
function boxMuller(x) {
  for (let i = 0; i < 8; i++) {
    const radius = Math.sqrt(-2 * Math.log(1 - x[i])), angle = 2 * Math.PI * x[i + 8];
    x[i] = radius * Math.cos(angle);
    x[i + 8] = radius * Math.sin(angle);
  }
}
