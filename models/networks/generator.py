"""Generators: layout, and perhaps a style, to image.

Letters: N batch, S semantic channels, H W layout size, h w latent size (H / stride, W / stride), f = ngf.
"""

import argparse
from argparse import Namespace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.networks.architecture import SLOPE, ResnetBlock, SPADEResnetBlock
from models.networks.base_network import BaseNetwork, Shapes, plain_norm_of, shape_of
from models.networks.conv import Conv2d
from models.networks.normalization import NormSpec, conv_norm, parse_norm
from models.networks.semantics import Semantics, dense_of, resize_nearest
from options.flags import natural, positive
from util.errors import UserError
from util.precision import at_least_float32
from util.seeding import standard_normal
from util.sizes import layout_problem

STRIDES = {"normal": 32, "more": 64, "most": 128}  # five, six and seven doublings


class SPADEGenerator(BaseNetwork):
    """SPADE generator (paper, figure 4 and appendix A).

    Without a VAE the latent map follows the layout, whose sides must be multiples of `stride`. With one, the latent
    size is fixed by the linear layer.
    """

    options_title = "SPADE generator (--netG spade)"
    takes_style = True

    @staticmethod
    def add_options(group: argparse._ActionsContainer) -> None:
        group.add_argument(
            "--num_upsampling_layers",
            default="normal",
            choices=list(STRIDES),
            help="normal: 5 upsamplings; more: one more in the middle; most: and a block more at the end",
        )

    @staticmethod
    def defaults() -> dict[str, Any]:
        return dict(norm_G="spectralspadesyncbatch3x3")

    @staticmethod
    def stride_of(opt: Namespace) -> int:
        return STRIDES[opt.num_upsampling_layers]

    @classmethod
    def layout_size_of(cls, opt: Namespace) -> tuple[int, int] | None:
        if not opt.use_vae:
            return None
        height, width = cls._latent_of(opt)
        return width * cls.stride_of(opt), height * cls.stride_of(opt)

    @classmethod
    def check_options(cls, opt: Namespace) -> None:
        parse_norm(opt.norm_G, spade=True, flag="--norm_G")
        if opt.use_vae and 0 in cls._latent_of(opt):
            raise ValueError(
                f"--crop_size {opt.crop_size} --aspect_ratio {opt.aspect_ratio} with --use_vae: both sides must be at "
                f"least the generator's stride, {cls.stride_of(opt)}"
            )
        if opt.num_upsampling_layers == "most" and opt.ngf < 2:
            raise ValueError(f"--num_upsampling_layers most halves --ngf {opt.ngf} at its end: make it 2 or more")

    @staticmethod
    def flags_of(shapes: Shapes) -> dict[str, Any]:
        width, shared = shape_of(shapes, "head_0.conv_0.weight"), shape_of(shapes, "head_0.norm_0.mlp_shared.0.weight")
        first = shape_of(shapes, "fc.weight")
        if width is None or shared is None or first is None:
            return {"--netG": "pix2pixhd" if any(key.startswith("model.") for key in shapes) else "another"}
        ngf, kind = width[0] // 16, "instance"
        if "head_0.norm_0.param_free_norm.running_mean" in shapes:
            kind = "{syncbatch,batch}"
        spectral = "spectral" if "head_0.conv_0.weight_orig" in shapes else ""
        found = {
            "--netG": "spade",
            "--norm_G": f"{spectral}spade{kind}{shared[-1]}x{shared[-1]}",
            "--ngf": ngf,
            "--label_nc + --contain_dontcare_label + instance edges (unless --no_instance)": shared[1],
            "--use_vae": len(first) == 2,
            "--num_upsampling_layers most": "up_4.conv_0.bias" in shapes,
            "--spectral_all": "conv_img.weight_orig" in shapes,
        }
        if image := shape_of(shapes, "conv_img.weight"):
            found["--output_nc"] = image[0]
        if len(first) == 2:
            found["--z_dim"] = first[1]
            found["pixels of the latent map (--crop_size, --crop_height, --aspect_ratio, --num_upsampling_layers)"] = (
                first[0] // (16 * ngf)
            )
        return found

    @classmethod
    def from_options(cls, opt: Namespace) -> "SPADEGenerator":
        return cls(
            opt.semantic_nc,
            ngf=opt.ngf,
            norm=parse_norm(opt.norm_G, spade=True),
            upsampling=opt.num_upsampling_layers,
            output_nc=opt.output_nc,
            z_dim=opt.z_dim if opt.use_vae else None,
            latent_hw=cls._latent_of(opt),
        )

    @classmethod
    def _latent_of(cls, opt: Namespace) -> tuple[int, int]:
        """(h, w) of the latent map that a style becomes."""
        stride = cls.stride_of(opt)
        width = opt.crop_size // stride
        # Quirk kept (SPADE): without --crop_height the height follows the aspect ratio, in modes that crop too.
        return round(width / opt.aspect_ratio) if opt.crop_height is None else opt.crop_height // stride, width

    def __init__(
        self,
        semantic_nc: int,
        ngf: int,
        norm: NormSpec,
        upsampling: str = "normal",
        output_nc: int = 3,
        z_dim: int | None = None,
        latent_hw: tuple[int, int] | None = None,
    ) -> None:
        """`z_dim`: length of the style, None without a VAE; `latent_hw`: the latent size, needed with a VAE only."""
        super().__init__()
        self.semantic_nc, self.z_dim, self.upsampling = semantic_nc, z_dim, upsampling
        self.stride = STRIDES[upsampling]
        self.latent_hw = latent_hw if z_dim is not None else None

        def block(fin: int, fout: int) -> SPADEResnetBlock:
            return SPADEResnetBlock(fin, fout, semantic_nc, norm)

        f = ngf
        if z_dim is None:
            self.fc = Conv2d(semantic_nc, 16 * f, 3, padding=1)
        else:
            self.fc = nn.Linear(z_dim, 16 * f * latent_hw[0] * latent_hw[1])
        self.head_0 = block(16 * f, 16 * f)
        self.G_middle_0 = block(16 * f, 16 * f)
        self.G_middle_1 = block(16 * f, 16 * f)
        self.up_0 = block(16 * f, 8 * f)
        self.up_1 = block(8 * f, 4 * f)
        self.up_2 = block(4 * f, 2 * f)
        self.up_3 = block(2 * f, f)
        if upsampling == "most":
            self.up_4 = block(f, f // 2)
        self.conv_img = Conv2d(f // 2 if upsampling == "most" else f, output_nc, 3, padding=1)

    @property
    def layout_size(self) -> tuple[int, int] | None:
        """The only (width, height) of a layout that it takes, where a style fixes it."""
        return self.latent_hw and (self.latent_hw[1] * self.stride, self.latent_hw[0] * self.stride)

    def forward(self, semantics: Semantics, z: Tensor | None = None) -> Tensor:
        """The synthesised image.

        Args:
            semantics: [N, S, H, W], one-hot classes and edges: a tensor, or a label map, for which SPADE computes
                gamma and beta once for each pattern of ids and not at each pixel.
            z: style [N, z_dim]; with a VAE and without z, row i is always the same draw from N(0, 1).

        Returns:
            [N, 3, H, W] in [-1, 1].

        Raises:
            UserError: the layout's size or channels do not fit, or the style's length.
        """
        check_semantics(semantics, self.semantic_nc, self.stride, self.layout_size)
        h, w = (side // self.stride for side in semantics.shape[-2:])
        x = self._start(semantics, z, h, w)  # [N, 16f, h, w]
        x = self.run(self.head_0, x, semantics)
        x = self.run(self.G_middle_0, _double(x), semantics)  # [N, 16f, 2h, 2w]
        if self.upsampling != "normal":
            x = _double(x)
        x = self.run(self.G_middle_1, x, semantics)
        x = self.run(self.up_0, _double(x), semantics)  # [N, 8f, H/8, W/8], H/16 with most
        x = self.run(self.up_1, _double(x), semantics)  # [N, 4f, H/4, W/4]
        x = self.run(self.up_2, _double(x), semantics)  # [N, 2f, H/2, W/2]
        x = self.run(self.up_3, _double(x), semantics)  # [N, f, H, W], H/2 with most
        if self.upsampling == "most":
            x = self.run(self.up_4, _double(x), semantics)  # [N, f/2, H, W]
        return torch.tanh(at_least_float32(self.conv_img(F.leaky_relu(x, SLOPE))))

    def _start(self, semantics: Semantics, z: Tensor | None, h: int, w: int) -> Tensor:
        if self.z_dim is None:
            if z is not None:
                raise UserError("this generator was built without --use_vae and takes no style")
            return self.fc(dense_of(resize_nearest(semantics, (h, w)), self.dtype))
        if z is None:
            z = torch.stack([standard_normal((self.z_dim,), 0, row) for row in range(len(semantics))])
            z = z.to(semantics.device, self.dtype)
        if z.shape != (len(semantics), self.z_dim):
            raise UserError(f"a style of shape {tuple(z.shape)}, but here it is {(len(semantics), self.z_dim)}")
        return self.fc(z).view(len(z), -1, h, w)


class Pix2PixHDGenerator(BaseNetwork):
    """The global generator of pix2pixHD (Wang et al. 2018, section 3.1), as released."""

    options_title = "pix2pixHD generator (--netG pix2pixhd)"

    @staticmethod
    def add_options(group: argparse._ActionsContainer) -> None:
        group.add_argument("--resnet_n_downsample", type=natural, default=4, help="number of stride-2 convolutions")
        group.add_argument("--resnet_n_blocks", type=natural, default=9, help="number of residual blocks")
        group.add_argument("--resnet_kernel_size", type=positive, default=3, help="kernel of the residual blocks")
        group.add_argument(
            "--resnet_initial_kernel_size", type=positive, default=7, help="kernel of the first convolution"
        )

    @staticmethod
    def defaults() -> dict[str, Any]:
        return dict(norm_G="instance")

    @staticmethod
    def stride_of(opt: Namespace) -> int:
        return 2**opt.resnet_n_downsample

    @classmethod
    def check_options(cls, opt: Namespace) -> None:
        parse_norm(opt.norm_G, spade=False, flag="--norm_G")
        for name in ("resnet_kernel_size", "resnet_initial_kernel_size"):
            if getattr(opt, name) % 2 == 0:
                raise ValueError(f"--{name} {getattr(opt, name)}: must be odd")

    @staticmethod
    def flags_of(shapes: Shapes) -> dict[str, Any]:
        first = shape_of(shapes, "model.1.weight") or shape_of(shapes, "model.1.0.weight")
        if first is None:
            return {"--netG": "spade" if "fc.weight" in shapes else "another"}
        blocks = [key for key in shapes if "conv_block" in key]
        count = len({key.split(".")[1] for key in blocks})
        last = max(int(key.split(".")[1]) for key in shapes if key.startswith("model."))
        found = {
            "--netG": "pix2pixhd",
            "--ngf": first[0],
            "--label_nc + --contain_dontcare_label + instance edges (unless --no_instance)": first[1],
            "--resnet_initial_kernel_size": first[-1],
            "--resnet_n_blocks": count,
            "--resnet_n_downsample": (last - count - 4) // 4,  # layers: 3, two a step, blocks, two a step, 3
            "--norm_G": plain_norm_of(shapes, "model.1"),
            "--spectral_all": f"model.{last}.weight_orig" in shapes,
        }
        if image := shape_of(shapes, f"model.{last}.weight"):
            found["--output_nc"] = image[0]
        if blocks:
            found["--resnet_kernel_size"] = max(shapes[key][-1] for key in blocks if len(shapes[key]) == 4)
        return found

    @classmethod
    def from_options(cls, opt: Namespace) -> "Pix2PixHDGenerator":
        return cls(
            opt.semantic_nc,
            ngf=opt.ngf,
            norm=parse_norm(opt.norm_G, spade=False),
            n_downsample=opt.resnet_n_downsample,
            n_blocks=opt.resnet_n_blocks,
            kernel=opt.resnet_kernel_size,
            initial_kernel=opt.resnet_initial_kernel_size,
            output_nc=opt.output_nc,
        )

    def __init__(
        self,
        semantic_nc: int,
        ngf: int,
        norm: NormSpec,
        n_downsample: int = 4,
        n_blocks: int = 9,
        kernel: int = 3,
        initial_kernel: int = 7,
        output_nc: int = 3,
    ) -> None:
        super().__init__()
        self.semantic_nc, self.stride = semantic_nc, 2**n_downsample
        # A reflection needs more pixels than it adds: at both ends, and downsampled in the blocks.
        inner = kernel // 2 + 1 if n_blocks else 1
        self.smallest = max(initial_kernel // 2 + 1, 4, self.stride * inner)
        layers: list[nn.Module] = [
            nn.ReflectionPad2d(initial_kernel // 2),
            # Mended (SPADE): without `spectral` in the norm string this crashed.
            conv_norm(Conv2d(semantic_nc, ngf, initial_kernel), norm),
            nn.ReLU(),
        ]
        width = ngf
        for _ in range(n_downsample):
            layers += [conv_norm(Conv2d(width, 2 * width, 3, stride=2, padding=1), norm), nn.ReLU()]
            width *= 2
        layers += [ResnetBlock(width, norm, kernel) for _ in range(n_blocks)]
        for _ in range(n_downsample):
            up = nn.ConvTranspose2d(width, width // 2, 3, stride=2, padding=1, output_padding=1)
            layers += [conv_norm(up, norm), nn.ReLU()]
            width //= 2
        layers += [nn.ReflectionPad2d(3), Conv2d(ngf, output_nc, 7), nn.Tanh()]
        self.model = nn.Sequential(*layers)

    def forward(self, semantics: Semantics, z: Tensor | None = None) -> Tensor:
        """[N, S, H, W] to the synthesised image [N, 3, H, W] in [-1, 1]; there is no style, `z` must be None.

        Raises:
            UserError: the layout's size or channels do not fit, or a style is given.
        """
        if z is not None:
            raise UserError("the pix2pixhd generator takes no style")
        check_semantics(semantics, self.semantic_nc, self.stride)
        height, width = semantics.shape[-2:]
        if min(height, width) < self.smallest:
            raise UserError(
                f"a layout of {width} x {height} (width x height), but this pix2pixhd generator needs sides of "
                f"{self.smallest} or more: use a larger layout or --crop_size, or fewer --resnet_n_downsample"
            )
        x = dense_of(semantics, self.dtype)
        for layer in self.model:
            if isinstance(layer, nn.Tanh):
                x = at_least_float32(x)
            x = self.run(layer, x) if isinstance(layer, ResnetBlock) else layer(x)
        return x


def check_semantics(semantics: Semantics, semantic_nc: int, stride: int, fixed: tuple[int, int] | None = None) -> None:
    """Refuse semantics [N, S, H, W] that a generator cannot read; `fixed`: the only (width, height) that will do.

    Raises:
        UserError: S is not `semantic_nc`, or the size does not fit; the message names what does.
    """
    shape = list(semantics.shape)
    if len(shape) != 4 or shape[1] != semantic_nc:
        raise UserError(
            f"semantics of the shape {shape}, but this generator reads [N, {semantic_nc}, H, W]: a channel for each "
            "class, unknown included, and one for instance edges; models.networks.semantics.encode_label_map makes "
            "them of ids"
        )
    height, width = shape[2:]
    # Mended (SPADE): a layout of any other size than crop_size's was squeezed into it without a word.
    problem = layout_problem(width, height, stride, fixed)
    if problem:
        hint = "" if fixed else "; --preprocess_mode none rounds to them by itself"
        raise UserError(f"a {problem}{hint}")


def _double(x: Tensor) -> Tensor:
    """[N, C, h, w] to [N, C, 2h, 2w], nearest neighbour."""
    return F.interpolate(x, scale_factor=2, mode="nearest")
