# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 07: What survives in the latent space?
#
# **The question.** Latent diffusion does not generate pixels. It generates latents, which have far fewer numbers, and a
# decoder turns them into an image. What do so few numbers keep, what do they lose, and why are they so well behaved
# that noise can be added to them?
#
# At the end you will be able to
#
# - look at a latent, channel by channel, and say what it still knows about the image;
# - explain the two losses that make a VAE, reconstruction and the KL term, by training two small ones;
# - measure the number that is 0.18215 in Stable Diffusion, and say what goes wrong without it;
# - say what interpolating latents does, and what it does not.
#
# The code is [`vae`](../ldm/vae/vae.py), with [`encoder`](../ldm/vae/encoder.py) and
# [`decoder`](../ldm/vae/decoder.py).

# %%
import math

import numpy as np
import torch
from IPython.display import display

import ldm
import show
from ldm.config import VAEConfig
from ldm.images.pixels import to_images, to_pixels
from ldm.lab.evaluate.reconstruction import psnr
from ldm.postcards import postcard
from ldm.train.data import CaptionedImages
from ldm.train.loop import Recipe, learning_rate, optimizer_step
from ldm.train.vae import latent_std, reconstruction_loss
from ldm.vae.vae import VAE, kl_divergence, reparametrise

model = ldm.load("tiny")
vae = model.vae

# %% [markdown]
# ## There and back
#
# Postcards of combinations that training never saw; four of eight are shown. *Predict:* what will the reconstruction
# lose first: colours, positions, edges, or small things?

# %%
cards = [postcard(i, seed=42, size=128, split="held_out") for i in range(8)]
pixels = to_pixels([card.image for card in cards])
latent, logvar = vae.encode(pixels)
rebuilt = vae.decode(latent).clamp(-1, 1)
many, few = pixels[0].numel(), latent[0].numel()
print(f"{many:,} numbers became {few:,}: {many // few} times fewer")
error = (rebuilt - pixels).abs() * 4 - 1
rows = [to_images(some[:4]) for some in (pixels, rebuilt, error)]
display(show.grid(rows, left=["drawn", "rebuilt", "error, x 4"], side=50))
assert many == 12 * few

# %% [markdown]
# Colours and positions are right. What is lost is at the edges: where *exactly* they run. In numbers: the PSNR gives
# the mean squared error in decibels, the higher the better. At 20 dB its root is a tenth of the range of values, and
# every 6 dB more halve it. The competitor has the same budget: an image shrunk to as many numbers as the latent has (36
# x 36 pixels in three colours), and enlarged again.

# %%
side = math.isqrt(latent[0].numel() // 3)
shrunk = [card.image.resize((side, side)).resize((128, 128)) for card in cards]
ours, theirs = psnr(rebuilt, pixels).mean().item(), psnr(to_pixels(shrunk), pixels).mean().item()
print(f"VAE {ours:.1f} dB, {side} x {side} pixels {theirs:.1f} dB")
three = [cards[0].image, to_images(rebuilt)[0], shrunk[0]]
display(show.film(three, ["drawn", "VAE", f"{side} x {side}"], side=96))
assert ours > theirs + 3

# %% [markdown]
# ## What a latent looks like
#
# It has kept its places: each stands for 8 x 8 pixels, and holds one number for each of sixteen channels, of which the
# first eight are drawn here. Blue is negative, red positive.

# %%
rows = [[cards[i].image, *show.channels(latent[i])[:8]] for i in range(2)]
display(show.grid(rows, top=["picture", *(f"channel {k}" for k in range(8))], side=48))

# %% [markdown]
# So a latent is still a small image, in odd colours. How odd? Let us look for the linear map from its
# numbers (and a constant) to the mean red, green and blue of its 8 x 8 pixels, by least squares, and see how much of
# the colour it explains.

# %%
small = torch.nn.functional.avg_pool2d(pixels, vae.factor)
x = torch.cat([latent, torch.ones_like(latent[:, :1])], dim=1).movedim(1, -1).flatten(0, 2)
y = small.movedim(1, -1).flatten(0, 2)
to_rgb = torch.linalg.lstsq(x, y).solution
guess = (x @ to_rgb).reshape(8, 16, 16, 3).movedim(-1, 1)
centred = small - small.mean(dim=(0, 2, 3), keepdim=True)
explained = 1 - (guess - small).square().mean() / centred.square().mean()
rows = [to_images(small), to_images(guess.clamp(-1, 1))]
display(show.grid(rows, left=["mean colours", f"{to_rgb.numel()} numbers"], side=72))
print(f"a linear map explains {explained:.0%} of the colours")
assert explained > 0.5

# %% [markdown]
# Many programs use exactly that for the small preview that they show while an image is generated: no decoder, just a
# small matrix.
#
# ## Not a point but a small Gaussian
#
# For each number, the encoder predicts two things: a mean and the logarithm of a variance. In training, the decoder
# gets a sample of that Gaussian, $z = \mu + \sigma\epsilon$. (This $\sigma$ is the encoder's uncertainty about one
# number, and has nothing to do with the noise level of [notebook 06](06_samplers.ipynb).) *Predict:* how large is it,
# if the means have a standard deviation of 1?

# %%
sigma = (logvar / 2).exp()
print(f"deviation of the means {latent.std():.2f}; the encoder's sigma: median {sigma.median():.3f}")
sampled = vae.decode(latent + sigma * torch.randn(latent.shape, generator=torch.Generator().manual_seed(0)))
moved = (psnr(rebuilt, pixels) - psnr(sampled.clamp(-1, 1), pixels)).mean().item()
print(f"a sample instead of the mean costs {moved:.2f} dB")
assert sigma.median() < 0.3 and moved < 2

# %% [markdown]
# Small: the encoder is almost certain. A second loss keeps it from being *entirely* certain. That loss, the KL term,
# is the divergence of each Gaussian from the standard one,
#
# $$D_\mathrm{KL} = \tfrac12 \left( \mu^2 + \sigma^2 - 1 - \log \sigma^2 \right),$$
#
# and it is zero only for $\mu = 0$, $\sigma = 1$: a latent that says nothing at all.

# %%
spread = np.linspace(0.02, 2, 200)
lines = {}
for mean in (0.0, 1.0, 2.0):
    ones = torch.ones(200, 1, 1, 1)
    log_variance = torch.tensor(2 * np.log(spread), dtype=torch.float32).reshape(200, 1, 1, 1)
    lines[f"mean {mean:g}"] = kl_divergence(mean * ones, log_variance).numpy()
display(show.curve(spread, lines, "sigma", "KL, nats per number"))
assert lines["mean 0"].argmin() == abs(spread - 1).argmin()
nats = kl_divergence(latent, logvar).mean().item() / latent[0].numel()
print(f"ours: {nats:.1f} nats, or {nats / math.log(2):.1f} bits, in each number of a latent")

# %% [markdown]
# (A nat is the unit of natural logarithms: 1.44 bits.) So the term is a tax on every bit that goes through the latent.
# To see what a tax does, change it. The other loss, [`reconstruction_loss`](../ldm/train/vae.py#reconstruction_loss),
# compares the image with its reconstruction, pixel by pixel and edge by edge. (The shipped VAE was trained with two
# more losses, which demand sharpness; they come in [notebook 10](10_train_your_own.ipynb).) Train two small VAEs that
# differ only in the weight of the KL term: the small weight that latent diffusion uses, and full weight, as in a
# textbook VAE. Postcards of 32 x 32 pixels, 120 steps each. *Predict:* what will become of sigma, and of the images?

# %%
SMALL = VAEConfig(channels=(16, 32), res_per_level=1, latent_channels=4, scale=1.0, groups=4)
RECIPE = Recipe(steps=120, batch=16, lr=3e-3, warmup=10)
lessons = to_pixels([postcard(i, seed=7, size=32).image for i in range(400)])


def one_step(small, weight, step, optimizer):
    generator = torch.Generator().manual_seed(step)
    batch = lessons[torch.randint(len(lessons), (RECIPE.batch,), generator=generator)]
    mean, logvar = small.encode(batch)
    painted = small.decode(reparametrise(mean, logvar, torch.randn(mean.shape, generator=generator)))
    kl = kl_divergence(mean, logvar).mean() / mean[0].numel()
    loss = reconstruction_loss(batch, painted) + weight * kl
    optimizer_step(small, optimizer, loss, learning_rate(RECIPE, step))


# %%
def learn(weight):
    torch.manual_seed(0)
    small = VAE(SMALL)
    optimizer = torch.optim.AdamW(small.parameters(), betas=(0.9, 0.99))
    for step in range(RECIPE.steps):
        one_step(small, weight, step, optimizer)
    return small.eval().requires_grad_(False)


WEIGHTS = (5e-4, 1.0)
students = {weight: learn(weight) for weight in WEIGHTS}

# %%
test = to_pixels([postcard(i, seed=8, size=32).image for i in range(5)])
rows, sigmas, quality = [to_images(test)], {}, {}
for weight, small in students.items():
    mean, logvar = small.encode(test)
    sigmas[weight] = (logvar / 2).exp().mean().item()
    quality[weight] = psnr(small.decode(mean), test).mean().item()
    print(
        f"KL x {weight:g}: sigma {sigmas[weight]:.3f}, means deviate {mean.std():.2f}, {quality[weight]:.1f} dB"
    )
    rows.append(to_images(small.decode(mean)))
display(show.grid(rows, left=["drawn", *(f"KL x {weight:g}" for weight in WEIGHTS)], side=56))
assert sigmas[5e-4] < 0.75 < 0.85 < sigmas[1.0]
assert quality[5e-4] > quality[1.0] + 2

# %% [markdown]
# At full weight the tax is so high that the latent says next to nothing: sigma is 1, and all images become much the
# same blur. With a *very* light tax the images can become sharp. Then why tax at all? Without one, nothing would keep
# the latents in range, and each would be a point, not a small Gaussian whose samples the decoder has learned to accept.
# (After so few steps the sigma of the light one is still falling; the shipped VAE showed where it ends.)
#
# ## The number 0.18215
#
# Diffusion adds noise of standard deviation 1, and its schedule was designed for latents of the same spread. So after
# training, measure the standard deviation of the means and multiply all latents by its inverse. In Stable Diffusion
# that number is
# [0.18215](../docs/questions.md#why-018215). Let us measure ours, on other images than the original measurement.

# %%
more = [postcard(i, seed=43, size=128) for i in range(200)]
pictures = CaptionedImages([card.scene for card in more], np.stack([np.asarray(card.image) for card in more]))
scaled = latent_std(vae, pictures)
print(f"deviation of the scaled latents {scaled:.3f}, of the raw ones {scaled / vae.scale:.3f}")
print(f"so the scale is {vae.scale / scaled:.4f}; config.json says {vae.scale:.4f}")
assert abs(scaled - 1) < 0.1

# %%
means = torch.cat([vae.encode(pictures.batch(np.arange(i, i + 50)))[0] for i in range(0, 200, 50)])
bins = np.linspace(-4, 4, 81)
middle = (bins[1:] + bins[:-1]) / 2
lines = {"N(0, 1)": np.exp(-(middle**2) / 2) / math.sqrt(2 * math.pi)}
lines |= {f"channel {k}": np.histogram(means[:, k], bins, density=True)[0] for k in range(8)}
display(show.curve(middle, lines, "value of a scaled latent", "density"))
print("deviations:", [f"{s:.2f}" for s in means.std(dim=(0, 2, 3)).tolist()])

# %% [markdown]
# One number for all channels, so single channels may be wider or narrower; and nothing makes their shape normal:
# that the *whole* has a standard deviation of 1 is enough. What if you forget the number, as some programs did? Ours
# happens to be near 1, so little would happen; Stable Diffusion's is not. *Predict:* what does the decoder make of a
# latent that was not divided by 0.18215, and so is that much too small? And of one that was divided twice?

# %%
wrong = [vae.decode(latent[:1] * factor) for factor in (1, 0.18215, 1 / 0.18215)]
names = ["right", "not divided", "divided twice"]
display(show.film([to_images(p.clamp(-1, 1))[0] for p in wrong], names, side=80))
spoilt = [psnr(p.clamp(-1, 1), pixels[:1]).item() for p in wrong]
print("   ".join(f"{name}: {value:.1f} dB" for name, value in zip(names, spoilt)))
assert spoilt[0] > max(spoilt[1:]) + 3

# %% [markdown]
# An image with the wrong contrast: a common bug in a new pipeline, and easily mistaken for something else.
#
# ## How much noise does the decoder tolerate?
#
# Sampling ends with a latent that is nearly clean. *Predict:* how much noise in the latent will show in the image?

# %%
amounts = [0.0, 0.1, 0.2, 0.4, 0.8]
noise = torch.randn(latent.shape, generator=torch.Generator().manual_seed(2))
noisy = [vae.decode(latent + amount * noise).clamp(-1, 1) for amount in amounts]
decibels = [psnr(some, pixels).mean().item() for some in noisy]
captions = [f"{amount:g}: {value:.1f} dB" for amount, value in zip(amounts, decibels)]
display(show.film([to_images(some[1:2])[0] for some in noisy], captions, side=66))
assert decibels[0] - decibels[1] < 3 and all(a > b for a, b in zip(decibels[1:], decibels[2:]))

# %% [markdown]
# A little does little harm: the decoder was trained on samples with the encoder's own sigma, which, as we saw, costs
# next to nothing. Far beyond that, the image is still an image, but its details are wrong. And how far does one
# position of the latent reach? Change one, and see which pixels move.

# %%
poked = latent[:1].clone()
poked[:, :, 8, 8] += 1
change = (vae.decode(poked) - rebuilt[:1]).abs().mean(dim=1)[0]
home = change[64:72, 64:72].sum() / change.sum()
near = change[48:88, 48:88].sum() / change.sum()
print(f"of all change {home:.0%} is in the place's own 8 x 8 pixels, {near:.0%} within two places of it")
heat = (change / change.max()).sqrt() * 2 - 1
three = torch.cat([rebuilt[:1], vae.decode(poked), heat.expand(1, 3, -1, -1)])
display(show.film(to_images(three), ["before", "after", "change"], side=80))
assert near > 0.3 and home < 0.9

# %% [markdown]
# Mostly its own neighbourhood, and a little everywhere: the normalisation layers and the attention in the middle see
# the whole image. (That is why inpainting puts the kept *pixels* back at the end, not only the kept latents.)
#
# ## Between two images
#
# *Predict:* halfway between the latent of one animal and the latent of another, is there a third animal?

# %%
ends = to_pixels([postcard(i, seed=42, size=128, split="held_out").image for i in (1, 3)])
a, b = vae.encode(ends)[0]
shares = torch.linspace(0, 1, 5)
latents = torch.stack([a + share * (b - a) for share in shares])
faded = torch.stack([ends[0] + share * (ends[1] - ends[0]) for share in shares])
display(show.grid([to_images(vae.decode(latents)), to_images(faded)], left=["latents", "pixels"], side=52))

# %% [markdown]
# No: a double exposure, hardly better than blending the pixels. The latent space of a convolutional VAE is good at
# rendering, but it does not know what an animal is. The U-Net does. Give *it* points between two noises (along a
# circle, so that the noise keeps its variance), and every one of them leads to an image:

# %%
prompt = "a dog"
start, end = (model.noise_source([seed], (128, 128))()[0] for seed in (3, 4))
angles = shares * math.pi / 2
way = torch.stack([angle.cos() * start + angle.sin() * end for angle in angles])
noise_fn, levels = model.noise_source(range(5), (128, 128)), model.levels("dpmpp_2m", 20)
cond, uncond = (model.encode_text([text]) for text in (prompt, ""))
for step in model.sample("dpmpp_2m", model.denoiser(cond, uncond, 3.0), way, levels, noise_fn):
    finished = step.x_prev
display(show.film(model.decode(finished), [f"{share:.0%}" for share in shares], side=64))
assert (way.std(dim=(1, 2, 3)) - 1).abs().max() < 0.15

# %% [markdown]
# That is the division of labour in latent diffusion: the VAE knows what things look like up close, the U-Net knows what
# is in an image.
#
# ## Exercises
#
# **1.** Which channel matters most? Set each channel in turn to zero (nearly its mean), decode, and rank them by PSNR.
#
# <details><summary>Solution</summary>
#
# ```python
# for k in range(latent.shape[1]):
#     without = latent.clone()
#     without[:, k] = 0
#     print(f"without channel {k}: {psnr(vae.decode(without).clamp(-1, 1), pixels).mean():.1f} dB")
# ```
#
# Compare with the images of the channels above: those that hurt most are the ones that carry brightness (here with its
# sign reversed). The last eight, narrower than the others, are hardly missed one at a time.
# </details>
#
# **2.** Flip an image left to right and encode it. Is its latent the flipped latent? Before you measure, say why it
# might not be (the encoder pads on the right and at the bottom only, see
# [`EncoderLevel`](../ldm/vae/encoder.py#EncoderLevel)).
#
# <details><summary>Solution</summary>
#
# ```python
# flipped = vae.encode(pixels.flip(-1))[0]
# print((flipped - latent.flip(-1)).square().mean().sqrt())           # against a deviation of 1
# print(psnr(vae.decode(latent.flip(-1)).clamp(-1, 1), pixels.flip(-1)).mean(), psnr(rebuilt, pixels).mean())
# ```
#
# It is not: the flipped latent decodes to a worse image. Learned kernels distinguish left from right, the padding
# shifts the grid, and no loss ever asked for symmetry.
# </details>
#
# **3.** The latent is 4,096 numbers of float16: 8,192 bytes. How good is a JPEG of at most that size? (Pillow:
# `image.save(file, "jpeg", quality=...)` to an `io.BytesIO`.)
#
# <details><summary>Solution</summary>
#
# ```python
# import io
# from PIL import Image
#
# for card, value in zip(cards, psnr(rebuilt, pixels).tolist()):
#     for quality in range(95, 0, -5):
#         file = io.BytesIO()
#         card.image.save(file, "jpeg", quality=quality)
#         if len(file.getvalue()) <= 8192:
#             break
#     jpeg = psnr(to_pixels([Image.open(file)]), to_pixels([card.image])).item()
#     print(f"JPEG of quality {quality}: {jpeg:.1f} dB; VAE: {value:.1f} dB")
# ```
#
# JPEG is the better compressor, mostly by a few decibels. But noise added to its bytes leaves no image at all; a latent
# tolerates it, and that is what diffusion needs.
# </details>
#
# To write the parts yourself: `ldm exercise start reparametrise`, `kl_divergence`, `encoder_padding` and
# `latent_scale`. Next: [08: What happens between a sentence and an image?](08_pipeline.ipynb), where all parts come
# together.
