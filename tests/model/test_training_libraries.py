"""Fine-tuning with the libraries that people use: transformers' Trainer, and PEFT."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import reference
import torch
from reference import one_thread  # noqa: F401
from torch import Tensor, nn

from xclip_cli.model import XCLIPConfig, XCLIPModel

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]  # of those libraries, about themselves


class Pairs(torch.utils.data.Dataset[dict[str, Tensor]]):
    """Texts with their videos."""

    def __init__(self, config: XCLIPConfig, count: int) -> None:
        self.ids, self.mask = reference.token_ids(config, [5 + i % 3 for i in range(count)])
        self.clips = reference.clips(config, count)

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, i: int) -> dict[str, Tensor]:
        return {"input_ids": self.ids[i], "attention_mask": self.mask[i], "pixel_values": self.clips[i]}


def collate(items: list[dict[str, Tensor]]) -> dict[str, Any]:
    return {**{name: torch.stack([item[name] for item in items]) for name in items[0]}, "return_loss": True}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return reference.checkpoint(tmp_path / "checkpoint", reference.config())


@pytest.mark.parametrize("checkpointing", [False, True])
def test_the_trainer_trains_evaluates_predicts_and_reloads(folder: Path, tmp_path: Path, checkpointing: bool) -> None:
    from transformers import Trainer, TrainingArguments

    model = XCLIPModel.from_pretrained(folder)
    before = model.visual_projection.weight.detach().clone()
    arguments = TrainingArguments(
        output_dir=str(tmp_path / "run"),
        per_device_train_batch_size=4,
        per_device_eval_batch_size=4,
        max_steps=4,
        learning_rate=1e-3,
        save_steps=2,
        report_to=[],
        remove_unused_columns=False,
        use_cpu=True,
        gradient_checkpointing=checkpointing,
        disable_tqdm=True,
        label_names=[],
    )
    data = Pairs(model.config, 8)
    trainer = Trainer(model=model, args=arguments, train_dataset=data, eval_dataset=data, data_collator=collate)
    result = trainer.train()
    assert result.training_loss > 0
    assert not model.visual_projection.weight.equal(before)
    metrics = trainer.evaluate()
    assert metrics["eval_loss"] > 0
    predicted = trainer.predict(data)
    assert predicted.predictions[0].shape == (8, 4)  # logits_per_video, batch after batch
    trainer.save_model(str(tmp_path / "saved"))
    again = XCLIPModel.from_pretrained(tmp_path / "saved", config=model.config)  # a Trainer saves the weights alone
    assert again.visual_projection.weight.equal(model.visual_projection.weight)
    resumed = Trainer(
        model=XCLIPModel.from_pretrained(folder), args=arguments, train_dataset=data, data_collator=collate
    )
    resumed.train(resume_from_checkpoint=str(tmp_path / "run" / "checkpoint-2"))
    assert resumed.state.global_step == 4


@pytest.mark.parametrize("checkpointing", [False, True])
def test_lora_trains_saves_loads_and_merges(folder: Path, tmp_path: Path, checkpointing: bool) -> None:
    import peft

    model = XCLIPModel.from_pretrained(folder)
    config = peft.LoraConfig(r=4, target_modules=["q_proj", "v_proj"], modules_to_save=["visual_projection"])
    adapted = peft.get_peft_model(model, config).train()
    if checkpointing:
        adapted.base_model.model.gradient_checkpointing_enable()
    trainable, total = adapted.get_nb_trainable_parameters()
    assert 0 < trainable < total / 3
    batch = collate([Pairs(model.config, 4)[i] for i in range(4)])
    optimizer = torch.optim.AdamW([p for p in adapted.parameters() if p.requires_grad], lr=1e-2)
    losses = []
    for _ in range(6):
        loss = adapted(**batch).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    adapted.eval().save_pretrained(tmp_path / "adapter")
    again = peft.PeftModel.from_pretrained(XCLIPModel.from_pretrained(folder), tmp_path / "adapter").eval()
    with torch.no_grad():
        expected = adapted(**batch).logits_per_video
        assert torch.allclose(again(**batch).logits_per_video, expected, atol=1e-5)
        merged = again.merge_and_unload()
        assert isinstance(merged, XCLIPModel)
        merged.save_pretrained(tmp_path / "merged")
        assert torch.allclose(
            XCLIPModel.from_pretrained(tmp_path / "merged")(**batch).logits_per_video, expected, atol=1e-4
        )


def test_data_parallel_modules_keep_outputs(folder: Path) -> None:
    model = XCLIPModel.from_pretrained(folder)
    wrapped = nn.DataParallel(model)
    batch = collate([Pairs(model.config, 4)[i] for i in range(4)])
    with torch.no_grad():
        assert wrapped(**batch).logits_per_video.equal(model(**batch).logits_per_video)
