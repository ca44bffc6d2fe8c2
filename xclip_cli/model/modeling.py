"""X-CLIP (arXiv 2208.02816) in plain PyTorch, small parts first.

Parameter names are those of the Hugging Face checkpoints. Where paper and released code differ, this is the code:
the message token is made from the un-normalised class token and dropped before the MLP (3.2); the MIT's residual has
no position embedding (3.2); the prompt generator sees patch tokens, not class tokens, and texts enter it un-normalised
(3.3).

Letters in shapes: B videos, T frames per clip, N = B * T frames, n patches per frame, S tokens, D width, A heads,
K texts, L text tokens, V and W widths of the vision and text encoders, P projection_dim.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from .config import XCLIPConfig, XCLIPTextConfig, XCLIPVisionConfig
from .kernels import quick_gelu_kernel, takes_kernels
from .outputs import BaseModelOutput, BaseModelOutputWithPooling, Similarity, TextEncoding, VideoEncoding, XCLIPOutput
from .pretrained import Configured, PretrainedModel


def quick_gelu(x: Tensor) -> Tensor:
    """CLIP's approximation of GELU."""
    if torch.is_grad_enabled() or torch.compiler.is_compiling():
        return x * torch.sigmoid(1.702 * x)
    if takes_kernels(x):
        return quick_gelu_kernel()(x)
    return (1.702 * x).sigmoid_().mul_(x)  # the same, in a third of the memory


def gelu_tanh(x: Tensor) -> Tensor:
    """GELU by its tanh approximation, which has several names in configs."""
    return F.gelu(x, approximate="tanh")


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "quick_gelu": quick_gelu,
    "gelu": F.gelu,
    "gelu_python": F.gelu,
    "gelu_new": gelu_tanh,
    "gelu_fast": gelu_tanh,
    "gelu_pytorch_tanh": gelu_tanh,
    "relu": F.relu,
    "relu2": lambda x: F.relu(x).square(),
    "relu6": F.relu6,
    "leaky_relu": F.leaky_relu,
    "selu": F.selu,
    "silu": F.silu,
    "swish": F.silu,
    "mish": F.mish,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "linear": lambda x: x,
}


class Linear(nn.Linear):
    """A linear layer without values of its own: they are loaded, or set by ``initialise``.

    torch's would be filled with random numbers first, which on the meta device takes as long as loading.
    """

    def reset_parameters(self) -> None:
        pass


class Activation(nn.Module):
    """An activation by its name in the config, or a function in place of a name."""

    def __init__(self, kind: str | Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.kind = kind

    def forward(self, x: Tensor) -> Tensor:
        return ACTIVATIONS[self.kind](x) if isinstance(self.kind, str) else self.kind(x)

    def extra_repr(self) -> str:
        return str(self.kind)


class DropPath(nn.Module):
    """Stochastic depth (arXiv 1603.09382): in training, drops the whole branch for a share of the samples."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.rate == 0.0:
            return x
        keep = torch.rand(x.shape[0], *[1] * (x.ndim - 1), device=x.device) >= self.rate
        return x * keep / (1.0 - self.rate)


def attend(
    q: Tensor, k: Tensor, v: Tensor, heads: int, dropout: float, mask: Tensor | None, causal: bool, weights: bool
) -> tuple[Tensor, Tensor | None]:
    """Scaled dot-product attention of q [N, Sq, D] over k and v [N, Sk, D] in ``heads`` heads → [N, Sq, D].

    ``mask`` is added to the scores. The attention weights [N, A, Sq, Sk] come second, only if asked for: they take the
    explicit path.
    """
    # [N, S, D] -> [N, A, S, D / A]
    q, k, v = (x.view(*x.shape[:2], heads, -1).transpose(1, 2) for x in (q, k, v))
    if not weights:
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout, is_causal=causal)
        return out.transpose(1, 2).flatten(2), None
    if causal:
        mask = causal_mask(q.shape[-2], q.dtype, q.device)
    scores = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5
    if mask is not None:
        scores = scores + mask
    probabilities = F.dropout(scores.softmax(dim=-1, dtype=torch.float32).to(q.dtype), dropout)
    return (probabilities @ v).transpose(1, 2).flatten(2), probabilities


def causal_mask(length: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """[L, L]: 0 where a token may look, the lowest number where it may not."""
    lowest = torch.full((length, length), torch.finfo(dtype).min, dtype=dtype, device=device)
    return lowest.triu(1)


class Attention(nn.Module):
    """Multi-head self-attention."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.dropout = dropout
        self.k_proj = Linear(width, width)
        self.v_proj = Linear(width, width)
        self.q_proj = Linear(width, width)
        self.out_proj = Linear(width, width)

    def forward(
        self, x: Tensor, mask: Tensor | None = None, causal: bool = False, weights: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        dropout = self.dropout if self.training else 0.0
        q, k, v = self.q_proj(x), self.k_proj(x), self.v_proj(x)
        out, attention = attend(q, k, v, self.heads, dropout, mask, causal, weights)
        return self.out_proj(out), attention


class MLP(nn.Module):
    """Two linear layers with an activation between."""

    def __init__(
        self, width: int, inner_width: int, activation: str | Callable[[Tensor], Tensor], dropout: float
    ) -> None:
        super().__init__()
        self.dropout = dropout
        self.activation = Activation(activation)
        self.fc1 = Linear(width, inner_width)
        self.fc2 = Linear(inner_width, width)

    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(self.fc2(self.activation(self.fc1(x))), self.dropout, self.training)


class EncoderLayer(nn.Module):
    """A pre-norm transformer layer, of the text encoder and of the MIT."""

    def __init__(self, config: XCLIPTextConfig | XCLIPVisionConfig) -> None:
        super().__init__()
        width, eps = config.hidden_size, config.layer_norm_eps
        self.self_attn = Attention(width, config.num_attention_heads, config.attention_dropout)
        self.layer_norm1 = nn.LayerNorm(width, eps=eps)
        self.mlp = MLP(width, config.intermediate_size, config.hidden_act, config.dropout)
        self.layer_norm2 = nn.LayerNorm(width, eps=eps)

    def forward(self, x: Tensor, mask: Tensor | None, causal: bool, weights: bool) -> tuple[Tensor, Tensor | None]:
        attended, attention = self.self_attn(self.layer_norm1(x), mask, causal, weights)
        x = x + attended
        return x + self.mlp(self.layer_norm2(x)), attention


class CrossFrameLayer(nn.Module):
    """A vision layer with cross-frame attention (3.2, equations 4 to 6).

    Each frame sends one message, made from its class token; the messages of a clip attend to each other, and each
    frame's tokens then attend to themselves and to their frame's message.
    """

    def __init__(self, config: XCLIPVisionConfig) -> None:
        super().__init__()
        width, eps = config.hidden_size, config.layer_norm_eps
        self.num_frames = config.num_frames
        self.self_attn = Attention(width, config.num_attention_heads, config.attention_dropout)
        self.layer_norm1 = nn.LayerNorm(width, eps=eps)
        self.mlp = MLP(width, config.intermediate_size, config.hidden_act, config.dropout)
        self.layer_norm2 = nn.LayerNorm(width, eps=eps)
        self.message_fc = Linear(width, width)
        self.message_ln = nn.LayerNorm(width, eps=eps)
        self.message_attn = Attention(width, config.num_attention_heads, config.attention_dropout)
        self.drop_path = DropPath(config.drop_path_rate)

    def forward(self, x: Tensor, mask: Tensor | None, causal: bool, weights: bool) -> tuple[Tensor, Tensor | None]:
        tokens = x.shape[1]
        message = self.message_fc(x[:, 0]).unflatten(0, (-1, self.num_frames))  # [N, V] -> [B, T, V]
        message = message + self.drop_path(self.message_attn(self.message_ln(message))[0])
        heard = torch.cat([x, message.flatten(0, 1).unsqueeze(1)], dim=1)  # [N, S + 1, V], the message last
        attended, attention = self.self_attn(self.layer_norm1(heard), mask, causal, weights)
        x = x + attended[:, :tokens]  # the message has been heard; each layer makes a new one
        return x + self.mlp(self.layer_norm2(x)), attention


class TransformerStack(nn.Module):
    """A stack of layers that keeps what it is asked to keep."""

    def __init__(self, config: XCLIPTextConfig | XCLIPVisionConfig, layer: Callable[[Any], nn.Module]) -> None:
        super().__init__()
        self.layers = nn.ModuleList([layer(config) for _ in range(config.num_hidden_layers)])
        self.gradient_checkpointing = False
        self.checkpoint_every = 1  # layers
        self.checkpointing_options: dict[str, Any] = {}

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None = None,
        causal: bool = False,
        output_attentions: bool = False,
        output_hidden_states: bool = False,
    ) -> BaseModelOutput:
        hidden_states, attentions = [x], []
        for i, layer in enumerate(self.layers):
            if self.gradient_checkpointing and self.training and i % self.checkpoint_every == 0:
                x, attention = checkpoint(layer, x, mask, causal, output_attentions, **self.checkpointing_options)
            else:
                x, attention = layer(x, mask, causal, output_attentions)
            if output_hidden_states:
                hidden_states.append(x)
            attentions.append(attention)
        return BaseModelOutput(
            last_hidden_state=x,
            hidden_states=tuple(hidden_states) if output_hidden_states else None,
            attentions=tuple(attentions) if output_attentions else None,
        )


class Embedding(nn.Embedding):
    """A table of vectors without values of its own: they are loaded, or set by ``initialise``.

    torch's would be filled with random numbers first, which on the meta device imports 800 modules (1.3 s) for nothing.
    """

    def reset_parameters(self) -> None:
        pass


class TextEmbeddings(nn.Module):
    """Token plus position embeddings."""

    def __init__(self, config: XCLIPTextConfig) -> None:
        super().__init__()
        self.token_embedding = Embedding(config.vocab_size, config.hidden_size)
        self.position_embedding = Embedding(config.max_position_embeddings, config.hidden_size)
        self.dropout = config.dropout

    def forward(self, input_ids: Tensor, position_ids: Tensor | None) -> Tensor:
        length, limit = input_ids.shape[1], self.position_embedding.num_embeddings
        if length > limit:
            raise ValueError(
                f"input_ids holds texts of {length} tokens, the model takes at most {limit} "
                "(max_position_embeddings): shorten the texts or let the tokenizer truncate them"
            )
        positions = self.position_embedding.weight[:length]
        if position_ids is not None:
            positions = self.position_embedding(position_ids)
        return F.dropout(self.token_embedding(input_ids) + positions, self.dropout, self.training)


class TextTransformer(Configured):
    """CLIP's text encoder (3.3): causal, read at the end token."""

    def __init__(self, config: XCLIPTextConfig) -> None:
        super().__init__()
        self.config = config
        self.embeddings = TextEmbeddings(config)
        self.encoder = TransformerStack(config, EncoderLayer)
        self.final_layer_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> Any:
        input_ids = required(input_ids, "input_ids")
        input_ids = input_ids.reshape(-1, input_ids.shape[-1])
        x = self.embeddings(input_ids, position_ids)
        mask = None
        if attention_mask is not None:
            padding = attention_mask.reshape(input_ids.shape)[:, None, None, :] == 0
            lowest = torch.finfo(x.dtype).min
            mask = causal_mask(x.shape[1], x.dtype, x.device).masked_fill(padding, lowest)  # [K, 1, L, L]
        encoded = self.encoder(x, mask, mask is None, **self._keep(output_attentions, output_hidden_states))
        last_hidden_state = self.final_layer_norm(encoded.last_hidden_state)
        # The end token has the largest id of all, and padding (the same id, or 0) comes after it: argmax finds the
        # first. Ids written in configs are wrong in the released ones and are not used.
        end = input_ids.argmax(dim=-1)
        output = BaseModelOutputWithPooling(
            last_hidden_state=last_hidden_state,
            pooler_output=last_hidden_state[torch.arange(end.shape[0], device=end.device), end],
            hidden_states=encoded.hidden_states,
            attentions=encoded.attentions,
        )
        return self._packed(output, return_dict)


class PatchEmbedding(nn.Conv2d):
    """A convolution whose windows do not overlap, as a product with unfolded patches where the library's is slow.

    In bfloat16 cuDNN's takes twenty times as long, and oneDNN's up to twice. Its parameters, and its input and output
    [N, C, H, W] → [N, V, rows, columns], are a convolution's: hooks and adapters find one.
    """

    def forward(self, input: Tensor) -> Tensor:
        if input.device.type == "cpu" and input.dtype == torch.float32:
            return super().forward(input)
        size = self.kernel_size[0]
        rows, columns = input.shape[-2] // size, input.shape[-1] // size
        whole = input[..., : rows * size, : columns * size]
        patches = whole.reshape(*whole.shape[:-2], rows, size, columns, size)
        patches = patches.permute(0, 2, 4, 1, 3, 5).flatten(3)  # [N, rows, columns, C * size * size]
        return F.linear(patches, self.weight.flatten(1)).permute(0, 3, 1, 2)


class VisionEmbeddings(nn.Module):
    """Patch embeddings behind a class token, plus position embeddings."""

    def __init__(self, config: XCLIPVisionConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.class_embedding = nn.Parameter(torch.empty(width))
        self.patch_embedding = PatchEmbedding(
            config.num_channels, width, kernel_size=config.patch_size, stride=config.patch_size, bias=False
        )
        self.position_embedding = Embedding(config.num_patches + 1, width)
        self.dropout = config.dropout

    def forward(self, pixel_values: Tensor) -> Tensor:
        patches = self.patch_embedding(pixel_values.to(self.patch_embedding.weight.dtype))
        patches = patches.flatten(2).transpose(1, 2)  # [N, V, rows, columns] -> [N, n, V]
        first = self.class_embedding.expand(patches.shape[0], 1, -1)
        x = torch.cat([first, patches], dim=1) + self.position_embedding.weight
        return F.dropout(x, self.dropout, self.training)


class VisionTransformer(Configured):
    """The cross-frame vision encoder (3.2)."""

    def __init__(self, config: XCLIPVisionConfig) -> None:
        super().__init__()
        width, eps = config.hidden_size, config.layer_norm_eps
        self.config = config
        self.embeddings = VisionEmbeddings(config)
        self.pre_layernorm = nn.LayerNorm(width, eps=eps)
        self.encoder = TransformerStack(config, CrossFrameLayer)
        self.post_layernorm = nn.LayerNorm(width, eps=eps)

    def forward(
        self,
        pixel_values: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> Any:
        frames = self.frames(required(pixel_values, "pixel_values"))
        x = self.pre_layernorm(self.embeddings(frames))
        encoded = self.encoder(x, **self._keep(output_attentions, output_hidden_states))
        output = BaseModelOutputWithPooling(
            last_hidden_state=encoded.last_hidden_state,
            pooler_output=self.post_layernorm(encoded.last_hidden_state[:, 0]),
            hidden_states=encoded.hidden_states,
            attentions=encoded.attentions,
        )
        return self._packed(output, return_dict)

    def frames(self, pixel_values: Tensor) -> Tensor:
        """Clips [B, T, C, H, W] or their frames [B * T, C, H, W] → [B * T, C, H, W]; a still is repeated T times.

        Raises ValueError on any other shape.
        """
        config = self.config
        frame, wanted = (config.num_channels, config.image_size, config.image_size), config.num_frames
        if pixel_values.ndim not in (4, 5) or tuple(pixel_values.shape[-3:]) != frame:
            raise ValueError(
                f"the vision encoder takes frames of shape [frames, {', '.join(map(str, frame))}] "
                f"(channels, height, width), got {list(pixel_values.shape)}"
            )
        if pixel_values.ndim == 4 and pixel_values.shape[0] == 1:
            pixel_values = pixel_values[None]
        if pixel_values.ndim == 5:
            if pixel_values.shape[1] == 1:
                pixel_values = pixel_values.expand(-1, wanted, -1, -1, -1)
            if pixel_values.shape[1] != wanted:
                raise ValueError(
                    f"pixel_values must be of shape [videos, {wanted} frames, channels, height, width], got "
                    f"{list(pixel_values.shape)}: this model takes {wanted} frames per video, or 1 "
                    "(vision_config.num_frames)"
                )
            return pixel_values.flatten(0, 1)
        if pixel_values.shape[0] % wanted:
            raise ValueError(
                f"got {pixel_values.shape[0]} frames, which do not divide into clips of {wanted} "
                "(vision_config.num_frames)"
            )
        return pixel_values


class MultiframeIntegrationTransformer(Configured):
    """MIT (3.2, equation 7): a clip's frames, in order, into one video."""

    def __init__(self, config: XCLIPVisionConfig) -> None:
        super().__init__()
        mit_config = dataclasses.replace(
            config,
            hidden_size=config.mit_hidden_size,
            intermediate_size=config.mit_intermediate_size,
            num_hidden_layers=config.mit_num_hidden_layers,
            num_attention_heads=config.mit_num_attention_heads,
        )
        self.config = mit_config
        self.position_embedding = nn.Parameter(torch.empty(1, config.num_frames, config.mit_hidden_size))
        self.encoder = TransformerStack(mit_config, EncoderLayer)

    def forward(
        self,
        hidden_states: Tensor,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> Any:
        x = hidden_states + self.position_embedding  # [B, T, P]
        encoded = self.encoder(x, **self._keep(output_attentions, output_hidden_states))
        last_hidden_state = encoded.last_hidden_state + hidden_states
        output = BaseModelOutputWithPooling(
            last_hidden_state=last_hidden_state,
            pooler_output=last_hidden_state.mean(dim=1),
            hidden_states=encoded.hidden_states,
            attentions=encoded.attentions,
        )
        return self._packed(output, return_dict)


class CrossAttention(nn.Module):
    """Texts look at the visual tokens of a video."""

    def __init__(self, config: XCLIPConfig) -> None:
        super().__init__()
        width = config.projection_dim
        self.heads = config.prompt_num_attention_heads
        self.attention_dropout = config.prompt_attention_dropout
        self.projection_dropout = config.prompt_projection_dropout
        self.k_proj = Linear(width, width, bias=False)
        self.v_proj = Linear(width, width, bias=False)
        self.q_proj = Linear(width, width, bias=False)
        self.proj = Linear(width, width)

    def forward(self, texts: Tensor, visual: Tensor) -> Tensor:
        dropout = self.attention_dropout if self.training else 0.0
        q, k, v = self.q_proj(texts), self.k_proj(visual), self.v_proj(visual)
        # Texts that have seen no video yet are one batch for all of them; a fused kernel wants equal batches.
        q = q.expand(k.shape[0], -1, -1)
        out, _ = attend(q, k, v, self.heads, dropout, None, False, False)
        return F.dropout(self.proj(out), self.projection_dropout, self.training)


class PromptGeneratorLayer(nn.Module):
    """Cross-attention and MLP, pre-norm. The visual tokens come normalised."""

    def __init__(self, config: XCLIPConfig) -> None:
        super().__init__()
        width, eps = config.projection_dim, config.text_config.layer_norm_eps
        self.cross_attn = CrossAttention(config)
        self.norm1 = nn.LayerNorm(width, eps=eps)
        self.norm3 = nn.LayerNorm(width, eps=eps)
        self.mlp = nn.Sequential(
            Linear(width, width * 4),
            Activation(config.prompt_hidden_act),
            nn.Dropout(config.prompt_attention_dropout),
            Linear(width * 4, width),
        )

    def forward(self, texts: Tensor, visual: Tensor) -> Tensor:
        texts = texts + self.cross_attn(self.norm1(texts), visual)
        texts = texts + self.mlp(self.norm3(texts))
        return texts


class PromptGenerator(nn.Module):
    """Video-specific prompts (3.3, equations 8 and 9): what a video adds to the text features."""

    def __init__(self, config: XCLIPConfig) -> None:
        super().__init__()
        width = config.projection_dim
        self.layernorm = nn.LayerNorm(width, eps=config.vision_config.layer_norm_eps)
        self.decoder = nn.ModuleList([PromptGeneratorLayer(config) for _ in range(config.prompt_layers)])
        self.alpha = nn.Parameter(torch.full((width,), config.prompt_alpha))

    def forward(self, texts: Tensor, visual: Tensor) -> Tensor:
        """Texts [B, K, P] and visual tokens [B, n, P] → [B, K, P]: alpha times the whole residual stream."""
        visual = self.layernorm(visual)
        for layer in self.decoder:
            texts = layer(texts, visual)
        return self.alpha * texts


class XCLIPTextModel(PretrainedModel):
    """The text encoder alone."""

    config_class = XCLIPTextConfig
    prefix = "text_model."

    def __init__(self, config: XCLIPTextConfig) -> None:
        super().__init__(config)
        self.text_model = TextTransformer(config)
        self.post_init()

    def _initialise(self) -> None:
        _initialise_text(self.text_model, self.config)

    def _embeddings(self) -> tuple[nn.Module, str, Any]:
        return self.text_model.embeddings, "token_embedding", self.config

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> Any:
        """Texts [K, L] → BaseModelOutputWithPooling; the pooled output [K, W] is the end token's."""
        return self.text_model(
            input_ids, attention_mask, position_ids, output_attentions, output_hidden_states, return_dict
        )


class XCLIPVisionModel(PretrainedModel):
    """The cross-frame vision encoder alone."""

    config_class = XCLIPVisionConfig
    prefix = "vision_model."
    main_input_name = "pixel_values"

    def __init__(self, config: XCLIPVisionConfig) -> None:
        super().__init__(config)
        self.vision_model = VisionTransformer(config)
        self.post_init()

    def _initialise(self) -> None:
        _initialise_vision(self.vision_model, self.config)

    def _embeddings(self) -> tuple[nn.Module, str, Any]:
        return self.vision_model.embeddings, "patch_embedding", self.config

    def forward(
        self,
        pixel_values: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> Any:
        """Clips [B, T, C, H, W], or their frames [B * T, C, H, W] → BaseModelOutputWithPooling, pooled [B * T, V]."""
        return self.vision_model(pixel_values, output_attentions, output_hidden_states, return_dict)


def is_text_parameter(name: str) -> bool:
    """Whether a parameter of XCLIPModel is one that only ``encode_text`` uses."""
    return name.startswith(("text_model.", "text_projection."))


class XCLIPModel(PretrainedModel):
    """X-CLIP: videos and texts in, their similarity out."""

    config_class = XCLIPConfig

    def __init__(self, config: XCLIPConfig) -> None:
        super().__init__(config)
        text, vision, width = config.text_config, config.vision_config, config.projection_dim
        self.text_model = TextTransformer(text)
        self.vision_model = VisionTransformer(vision)
        self.visual_projection = Linear(vision.hidden_size, width, bias=False)
        self.text_projection = Linear(text.hidden_size, width, bias=False)
        self.logit_scale = nn.Parameter(torch.tensor(config.logit_scale_init_value))
        self.prompts_visual_layernorm = nn.LayerNorm(vision.hidden_size, eps=vision.layer_norm_eps)
        self.prompts_visual_projection = nn.Parameter(torch.empty(vision.hidden_size, width))
        self.mit = MultiframeIntegrationTransformer(vision)
        self.prompts_generator = PromptGenerator(config)
        self.post_init()

    def _initialise(self) -> None:
        text, vision, factor = self.config.text_config, self.config.vision_config, self.config.initializer_factor
        _initialise_text(self.text_model, text)
        _initialise_vision(self.vision_model, vision)
        _initialise_encoder(self.mit.encoder, vision.initializer_range, factor)
        _initialise_linear(self.prompts_generator, text.initializer_range * factor)
        with torch.no_grad():
            nn.init.normal_(self.mit.position_embedding, std=factor)
            nn.init.normal_(self.text_projection.weight, std=text.hidden_size**-0.5 * factor)
            nn.init.normal_(self.visual_projection.weight, std=vision.hidden_size**-0.5 * factor)
            nn.init.normal_(self.prompts_visual_projection, std=vision.hidden_size**-0.5 * factor)

    def _embeddings(self) -> tuple[nn.Module, str, Any]:
        return self.text_model.embeddings, "token_embedding", self.config.text_config

    def encode_text(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        output_attentions: bool = False,
        output_hidden_states: bool = False,
    ) -> TextEncoding:
        """Texts [K, L] → features [K, P]: they depend on the texts alone, so are worth keeping."""
        output = self.text_model(input_ids, attention_mask, position_ids, output_attentions, output_hidden_states, True)
        return TextEncoding(features=self.text_projection(output.pooler_output), text_model_output=output)

    def encode_video(
        self, pixel_values: Tensor, output_attentions: bool = False, output_hidden_states: bool = False
    ) -> VideoEncoding:
        """Clips [B, T, C, H, W] → features [B, P] and visual tokens [B, n, P]. A still, T = 1, is repeated."""
        vision = self.config.vision_config
        if pixel_values.ndim != 5:
            raise ValueError(
                f"pixel_values must be of shape [videos, {vision.num_frames} frames, channels, height, width], got "
                f"{list(pixel_values.shape)}"
            )
        frames = self.vision_model(pixel_values, output_attentions, output_hidden_states, True)
        clips = self.visual_projection(frames.pooler_output).unflatten(0, (-1, vision.num_frames))  # [B, T, P]
        integrated = self.mit(clips, output_attentions, output_hidden_states, True)
        patches = self.prompts_visual_layernorm(frames.last_hidden_state[:, 1:]).unflatten(0, (-1, vision.num_frames))
        return VideoEncoding(
            features=integrated.pooler_output,
            # [B, T, n, V] -> [B, n, P]: the mean over frames first, which leaves a T-th of them to be projected
            visual_tokens=patches.mean(dim=1) @ self.prompts_visual_projection,
            vision_model_output=frames,
            mit_output=integrated,
        )

    def prompted(self, text_features: Tensor, visual_tokens: Tensor) -> Tensor:
        """Text features [K, P] and visual tokens [B, n, P] → text features with each video's prompts [B, K, P], in
        float32 at least."""
        # [1, K, P]: what the prompts do to the texts alone, before they see a video, is computed once for all videos.
        prompts = self.prompts_generator(text_features.to(visual_tokens.dtype).unsqueeze(0), visual_tokens)
        wide = torch.promote_types(prompts.dtype, torch.float32)
        texts: Tensor = text_features.to(wide) + prompts.to(wide)
        return texts

    def similarity(self, text_features: Tensor, video_features: Tensor, visual_tokens: Tensor) -> Similarity:
        """Text features [K, P], video features [B, P] and visual tokens [B, n, P] → logits [B, K].

        Each video changes the text features by its own prompts, so text embeds are [B, K, P]. Labels do not see each
        other: K may be cut into chunks at will. The final similarity is computed in float32 at least.
        """
        texts = self.prompted(text_features, visual_tokens)
        text_embeds = texts / texts.norm(dim=-1, keepdim=True)
        videos = video_features.to(texts.dtype)
        video_embeds = videos / videos.norm(dim=-1, keepdim=True)
        cosines = torch.einsum("bp,bkp->bk", video_embeds, text_embeds)
        logits = cosines * self.logit_scale.to(texts.dtype).exp()
        return Similarity(logits_per_video=logits, text_embeds=text_embeds, video_embeds=video_embeds)

    def forward(
        self,
        input_ids: Tensor | None = None,
        pixel_values: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        return_loss: bool | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> Any:
        """Texts [K, L] and clips [B, T, C, H, W] → XCLIPOutput.

        ``return_loss`` adds the contrastive loss, for which text i belongs to video i: K must equal B. With
        ``return_dict=False`` a tuple of the loss if asked for, the logits, the embeds and the tuples of both encoders.
        Raises ValueError on input that is missing or of the wrong shape.
        """
        kept = self._keep(output_attentions, output_hidden_states)
        input_ids, pixel_values = required(input_ids, "input_ids"), required(pixel_values, "pixel_values")
        video = self.encode_video(pixel_values, **kept)
        text = self.encode_text(input_ids, attention_mask, position_ids, **kept)
        similarity = self.similarity(text.features, video.features, video.visual_tokens)
        output = XCLIPOutput(
            loss=contrastive_loss(similarity.logits_per_video) if return_loss else None,
            logits_per_video=similarity.logits_per_video,
            logits_per_text=similarity.logits_per_video.T,
            text_embeds=similarity.text_embeds,
            video_embeds=similarity.video_embeds,
            text_model_output=text.text_model_output,
            vision_model_output=video.vision_model_output,
            mit_output=video.mit_output,
        )
        packed = self._packed(output, return_dict)
        return packed if packed is output else packed[:-1]  # the documented tuple has no mit_output

    def get_text_features(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> Tensor:
        """Texts [K, L] → [K, P], before any video's prompts. Their product with video features is not the score.

        The last three arguments are as documented for ``forward``; features come alone, as documented, in any case.
        """
        kept = self._keep(output_attentions, output_hidden_states)
        return self.encode_text(required(input_ids, "input_ids"), attention_mask, position_ids, **kept).features

    def get_video_features(
        self,
        pixel_values: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> Tensor:
        """Clips [B, T, C, H, W] → [B, P], before normalisation. As for ``get_text_features``, features come alone."""
        kept = self._keep(output_attentions, output_hidden_states)
        return self.encode_video(required(pixel_values, "pixel_values"), **kept).features


def required(given: Tensor | None, name: str) -> Tensor:
    """What a call cannot do without. Raises ValueError."""
    if given is None:
        raise ValueError(f"{name} is missing: give it")
    return given


def contrastive_loss(logits: Tensor) -> Tensor:
    """CLIP's symmetric cross-entropy of logits [B, B]: the matches are on the diagonal."""
    videos, texts = logits.shape
    if videos != texts:
        raise ValueError(
            f"the contrastive loss pairs text i with video i, got {texts} texts and {videos} videos: give equal counts"
        )
    targets = torch.arange(videos, device=logits.device)
    return (F.cross_entropy(logits.T, targets) + F.cross_entropy(logits, targets)) / 2


@torch.no_grad()
def _initialise_text(text: TextTransformer, config: XCLIPTextConfig) -> None:
    nn.init.normal_(text.embeddings.token_embedding.weight, std=0.02 * config.initializer_factor)
    nn.init.normal_(text.embeddings.position_embedding.weight, std=0.02 * config.initializer_factor)
    _initialise_encoder(text.encoder, config.initializer_range, config.initializer_factor)


@torch.no_grad()
def _initialise_vision(vision: VisionTransformer, config: XCLIPVisionConfig) -> None:
    embeddings, spread = vision.embeddings, config.initializer_range * config.initializer_factor
    nn.init.normal_(embeddings.class_embedding, std=config.hidden_size**-0.5 * config.initializer_factor)
    nn.init.normal_(embeddings.patch_embedding.weight, std=spread)
    nn.init.normal_(embeddings.position_embedding.weight, std=spread)
    _initialise_encoder(vision.encoder, config.initializer_range, config.initializer_factor)


@torch.no_grad()
def _initialise_encoder(encoder: TransformerStack, spread: float, factor: float) -> None:
    _initialise_linear(encoder, spread)
    depth = len(encoder.layers)
    for module in encoder.modules():
        if isinstance(module, Attention):
            width = module.out_proj.in_features
            for projection in (module.q_proj, module.k_proj, module.v_proj):
                nn.init.normal_(projection.weight, std=(2 * depth * width) ** -0.5 * factor)
            nn.init.normal_(module.out_proj.weight, std=width**-0.5 * factor)
        elif isinstance(module, MLP):
            width = module.fc1.in_features
            nn.init.normal_(module.fc1.weight, std=(2 * width) ** -0.5 * factor)
            nn.init.normal_(module.fc2.weight, std=(2 * depth * width) ** -0.5 * factor)


@torch.no_grad()
def _initialise_linear(module: nn.Module, std: float) -> None:
    for linear in module.modules():
        if isinstance(linear, nn.Linear):
            nn.init.normal_(linear.weight, std=std)
            if linear.bias is not None:
                nn.init.zeros_(linear.bias)
