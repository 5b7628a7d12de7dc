# Copyright 2026 The hf_bnvae authors. Licensed under the Apache License, Version 2.0.
"""Model cards: what a model is and how good it is, rendered from the files of its training and its evaluation."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, get_type_hints

from huggingface_hub import EvalResult, ModelCard, ModelCardData
from huggingface_hub.constants import REPOCARD_NAME
from huggingface_hub.repocard import REGEX_YAML_BLOCK
from transformers import CONFIG_NAME
from transformers.utils import logging

from ..evaluation.information import is_near_log_n
from ..evaluation.result import EvaluationResult
from ..evaluation.verdict import judge
from ..model.configuration_bnvae import BNVAEConfig
from ..model.directions_bnvae import Direction, read_directions
from ..model.saved_files_bnvae import DIRECTIONS_FILE, sha256_of, write_whole
from ..utils.file_names import REPORT_JSON, RUN_FILE
from ..utils.json_files import read_json, write_json
from ..utils.terminal import visible
from .card_fields import check_card_fields
from .card_types import check_card_types
from .commands import PROGRAM
from .evaluation_report import PICTURES, probe_table
from .markdown import fenced, inline, markdown_table, prose
from .provenance import TextSource, is_hub_name, training_texts
from .report import Examples, figure_lines, loading_lines, prior_lines, render_examples
from .report_files import TRAINING, is_report, read_report
from .settings import Role, names_with_role

logger = logging.get_logger(__name__)

TEMPLATE_FILE = Path(__file__).with_name("model_card_template.md")
CARD_JSON = "model_card.json"

TAGS = ("bnvae", "vae", "text-vae", "latent-space", "posterior-collapse")
# The nearest of the Hub's tasks: from a text to its place in the latent space.
PIPELINE_TAG = "feature-extraction"

_WARNING = "Do not rely on this model's latents."

# The last line of a card. It tells whether somebody has changed the card since it was written.
_SEAL = re.compile(r"\n<!-- hf_bnvae wrote this card: ([0-9a-f]{64}) -->\n?$")

# The description in the empty card that Transformers writes. Except for metadata, all such cards are the same.
_BLANK = (
    "This is the model card of a 🤗 transformers model that has been pushed on the Hub. This model card has been "
    "automatically generated."
)

_HASHES = {"corpus_train_sha256": "training texts", "corpus_validation_sha256": "held-out texts"}
_INJECTIONS = {
    "both": "a memory slot in each layer and its embeddings",
    "memory": "a memory slot in each layer",
    "embedding": "its embeddings",
}
# Fields of the configuration that set the scale of a posterior.
_SCALES = ("bn_tau", "bn_theta_init", "bn_gamma", "rate")


@dataclass(frozen=True, kw_only=True)
class BNVAEModelCard:
    """
    The content of a model card, as values that JSON can hold. [`~BNVAEModelCard.render`] makes the card.

    Args:
        model_name (`str`): The title.
        repo_id (`str`): The name by which the model is loaded: a name on the Hub, or a folder.
        config (`dict`): Posterior, latent size, pooling, injection, scale and KL floor of the model's configuration.
        encoder, decoder (`str`): The two networks, in words or by their names on the Hub.
        base_models (`list[str]`): The names of pretrained networks on the Hub.
        num_parameters (`int`, *optional*): Parameters of the whole model.
        texts (`str`): The training texts, in words.
        datasets (`list[str]`): The names of training data on the Hub.
        num_train_texts (`int`, *optional*): The number of training texts.
        hashes (`dict`): SHA-256 of training and held-out texts.
        license, language (`str`, *optional*): License and language, spelt as on the Hub.
        figures (`dict`): Figures of an evaluation, by the names of the fields of [`~evaluation.EvaluationResult`].
        verdict, verdict_text (`str`, *optional*): The evaluation's verdict: its name, and in words.
        evaluated_on (`str`): The texts of the evaluation, in words.
        probe (`dict`, *optional*): What a linear classifier read from the latents, as in an evaluation's report.
        examples (`dict`, *optional*): Texts that the model makes, as fields of [`~report.Examples`]. There are no
            reconstructions if the texts come from somebody's own file.
        directions (`list[dict]`): The directions that are saved with the model: name, sides, scale, accuracy.
        pictures (`list[str]`): File names of pictures in the folder of the card.
        settings (`dict`): Settings of the training.
        command (`str`, *optional*): The command that repeats the training.
        versions (`dict`): Versions of the libraries.
        hardware (`str`): The hardware of the training.
        tags (`list[str]`): Tags in addition to the library's tags.
        weights_sha256 (`str`, *optional*): SHA-256 of the weights that the card describes.
    """

    model_name: str
    repo_id: str
    config: dict[str, Any]
    encoder: str = "unknown"
    decoder: str = "unknown"
    base_models: list[str] = field(default_factory=list)
    num_parameters: int | None = None
    texts: str = "texts of which nothing is recorded"
    datasets: list[str] = field(default_factory=list)
    num_train_texts: int | None = None
    hashes: dict[str, str] = field(default_factory=dict)
    license: str | None = None
    language: str | None = None
    figures: dict[str, Any] = field(default_factory=dict)
    verdict: str | None = None
    verdict_text: str | None = None
    evaluated_on: str = "held-out texts"
    probe: dict[str, Any] | None = None
    examples: dict[str, Any] | None = None
    directions: list[dict[str, Any]] = field(default_factory=list)
    pictures: list[str] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)
    command: str | None = None
    versions: dict[str, str] = field(default_factory=dict)
    hardware: str = ""
    tags: list[str] = field(default_factory=list)
    weights_sha256: str | None = None

    def __post_init__(self) -> None:
        check_card_fields(self.license, self.language)
        kinds = get_type_hints(type(self))
        check_card_types({name: getattr(self, name) for name in kinds}, kinds)

    # -- from files --------------------------------------------------------------------------------------------------

    @classmethod
    def from_folder(cls, folder: str | Path, **known: Any) -> "BNVAEModelCard":
        """
        The card of a saved model, from the files in its folder. A run of the training scripts leaves everything that a
        card holds; any other saved model leaves its configuration.

        Args:
            folder (`str` or `Path`): The folder of the model.
            known: Fields of the card, which replace the values from the folder.

        Raises:
            ValueError: for a folder without a BNVAE, or with a damaged file.
        """
        path = Path(folder)
        config = _read(path / CONFIG_NAME)
        if config.get("model_type") != BNVAEConfig.model_type:
            found = f"its model_type is {config.get('model_type')!r}" if config else "there is none"
            raise ValueError(
                f"{path} holds no BNVAE: it needs a {CONFIG_NAME} of model_type {BNVAEConfig.model_type!r}, and "
                f"{found}."
            )
        name = path.resolve().name
        card = cls(
            model_name=name,
            repo_id=name,
            config=latent_space(BNVAEConfig.from_dict(config)),
            **_networks(config),
            directions=[shown_direction(d) for d in read_directions(path / DIRECTIONS_FILE).values()],
            weights_sha256=_weights_digest(path),
        )
        run = _read(path / RUN_FILE)
        if run:
            card = replace(card, **_from_run(run))
        if is_report(path / REPORT_JSON, TRAINING):
            report = read_report(str(path))
            card = replace(card.with_evaluation(report), **_from_training_report(report))
        known.setdefault("pictures", [picture for picture in PICTURES if (path / picture).is_file()])
        return replace(card, **known)

    @classmethod
    def of_weights(cls, folder: str | Path) -> "BNVAEModelCard":
        """
        The card in the folder of a saved model, if it describes the weights in the folder. Otherwise a new card from
        the folder, with license, language and tags of the old card and without figures; a warning says so.

        Args:
            folder (`str` or `Path`): The folder of the model.

        Raises:
            ValueError: as [`~BNVAEModelCard.from_folder`].
        """
        stored = Path(folder, CARD_JSON)
        card = cls.from_folder(folder)
        if not stored.is_file():
            return card
        old = cls.from_json_file(stored)
        if old.weights_sha256 == card.weights_sha256:
            return replace(old, directions=card.directions)
        if old.figures:
            logger.warning(
                f"The weights in {folder} have changed since its card was written, so the new card has no figures. "
                f"`{PROGRAM} evaluate --model {folder} --update_card` adds new ones."
            )
        said = {name: getattr(old, name) for name in ("license", "language", "tags")}
        return replace(card, **said, figures={}, verdict=None, verdict_text=None, examples=None, pictures=[])

    def with_evaluation(self, report: Mapping[str, Any]) -> "BNVAEModelCard":
        """The same card with the figures of a report.

        Args:
            report (mapping): What a `report.json` holds, of an evaluation or of a training run.
        """
        data, probe = report["data"], report.get("probe")
        examples = report["examples"] if data["is_public"] else _without_texts(report["examples"])
        return replace(
            self,
            figures={name: value for name, value in report["figures"].items() if value is not None},
            verdict=report["verdict"],
            verdict_text=report["verdict_text"],
            evaluated_on=f"{data['public_source']}, {data['num_texts']} texts",
            hashes={**self.hashes, "corpus_validation_sha256": data["sha256"]},
            # Without the description, which names files.
            probe=probe and {name: probe[name] for name in ("labels", "results")},
            examples=examples,
            pictures=[name for name in report["files"] if name in PICTURES],
        )

    @classmethod
    def from_json_file(cls, path: str | Path) -> "BNVAEModelCard":
        """The card from a file that [`~BNVAEModelCard.to_json_file`] wrote.

        Raises:
            ValueError: for a file that holds something else, or a field of another kind.
        """
        record = _read(Path(path))
        names = {f.name for f in fields(cls)}
        odd = sorted({"model_name", "repo_id", "config"} - record.keys() | record.keys() - names)
        if odd:
            raise ValueError(f"{path} is not the JSON of a model card: it lacks, or has too much, {', '.join(odd)}.")
        examples = record.get("examples")
        if isinstance(examples, dict) and not examples.get("reconstructions"):
            record["examples"] = _without_texts(examples)  # earlier versions kept the conditions
        try:
            card = cls(**record)
            card.render()  # no other code knows what a card needs of its fields' parts
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            message = str(error) if isinstance(error, ValueError) else repr(error)
            raise ValueError(f"{path} is not the JSON of a model card: {message}") from error
        return card

    def to_json_file(self, path: str | Path) -> None:
        """Write the content of the card, from which it can be rendered again."""
        write_json(path, asdict(self))

    # -- the card ----------------------------------------------------------------------------------------------------

    @property
    def is_alive(self) -> bool | None:
        """Whether the latent space is healthy; `None` if nothing was measured."""
        name, _ = self.judged()
        return None if name is None else name == "alive"

    def judged(self) -> tuple[str | None, str | None]:
        """The verdict and its words; `None` without figures. Figures of an older version came without them."""
        if self.verdict is None and "kl" in self.figures and "kl_floor" in self.figures:
            verdict = judge(self.figures)
            return verdict.name, str(verdict)
        return self.verdict, self.verdict_text

    def render(self) -> str:
        """The card, in Markdown with the metadata that the Hub reads."""
        is_conditional = bool(self.config.get("conditional"))
        text = ModelCard.from_template(
            self._metadata(),
            template_path=str(TEMPLATE_FILE),
            title=inline(self.model_name),
            verdict=self._verdict(),
            description=self._description(),
            loading=fenced(loading_lines(self.repo_id, is_conditional=is_conditional), "python"),
            is_conditional=is_conditional,
            loading_remotely=fenced(remote_loading_lines(self.repo_id), "python"),
            evaluated_on=f"On {inline(self.evaluated_on)}:",
            figures=self.render_figures(),
            probe=self._probe(),
            pictures=[(name, *PICTURES[name]) for name in self.pictures],
            examples=self._examples(),
            directions=self._directions(),
            training=self._training(),
            limits=self._limits(),
        )
        return seal(str(text))

    def save(self, folder: str | Path) -> Path | None:
        """
        Write the card and its content, as JSON, to a folder. A card that somebody wrote or changed by hand is kept,
        with a warning.

        Returns:
            `Path`: the card's file; `None` if somebody's card was kept.
        """
        folder = Path(folder)
        path = folder / REPOCARD_NAME
        self.to_json_file(folder / CARD_JSON)
        if path.is_file() and not is_sealed(path.read_text(encoding="utf-8")):
            logger.warning(f"{path} was written or changed by hand, so it is kept. Delete it to get a new card.")
            return None
        write_whole(path, self.render())
        return path

    def _metadata(self) -> ModelCardData:
        return ModelCardData(
            language=self.language,
            license=self.license,
            library_name="transformers",
            pipeline_tag=PIPELINE_TAG,
            tags=[*TAGS, *(visible(tag) for tag in self.tags if tag not in TAGS)],
            base_model=[visible(name) for name in self.base_models] or None,
            datasets=[visible(name) for name in self.datasets] or None,
            model_name=visible(self.model_name),
            eval_results=[
                EvalResult(
                    task_type=PIPELINE_TAG,
                    dataset_type=visible(self.datasets[0]) if self.datasets else "text",
                    dataset_name=visible(self.evaluated_on),
                    metric_type=name,
                    metric_name=label,
                    metric_value=self.figures[name],
                )
                for name, label in _figure_names()
                if self.figures.get(name) is not None
            ],
        )

    def _verdict(self) -> str:
        figures = self.figures
        name, text = self.judged()
        if name is None or text is None:
            return (
                "> **Nobody knows whether this latent space is alive:** no evaluation came with the model. "
                f"`{PROGRAM} evaluate --model FOLDER --update_card` adds one."
            )
        facts = []
        if "kl" in figures:
            facts.append(f"KL {figures['kl']:.2f} nats per sentence (floor {figures['kl_floor']:.2f})")
        if "mutual_information" in figures:
            facts.append(
                f"of which {figures['mutual_information']:.2f} are information about the text (mutual information; "
                f"log N = {figures['log_num_sentences']:.2f})"
            )
        if "active_units" in figures:
            facts.append(f"{figures['active_units']} of {self.config['latent_size']} units active")
        if "aggregate_second_moment" in figures:
            facts.append(f"E[mu² + sigma²] = {figures['aggregate_second_moment']:.3f} (the prior's is 1)")
        first, _, rest = prose(text).partition(". ")
        words = f"**{first}.** {rest}" if name == "alive" else f"**{_WARNING}** {prose(text)}"
        return f"> {words}\n>\n> Measured: {', '.join(facts) or 'no number'}."

    def _description(self) -> str:
        config = self.config
        scale = ", ".join(f"{name} {value:g}" for name, value in config["scale"].items())
        size = "" if self.num_parameters is None else f" ({self.num_parameters / 1e6:.1f} million parameters)"
        way = _INJECTIONS[config["latent_injection"]]
        floor = (
            "Its KL has no floor, so that nothing but the training's settings keeps the latents alive."
            if not config["kl_floor"]
            else f"The mean KL of a batch of different training texts is at least {config['kl_floor']:.2f} nats per "
            "sentence."
        )
        given = "Both networks are given the text's condition, too. " if config.get("conditional") else ""
        pooling = f"pooling `{config['pooling']}`{', normalised' if config.get('normalize_features') else ''}"
        return (
            f"A variational autoencoder for text{size}: a sentence is encoded to a Gaussian over "
            f"{config['latent_size']} dimensions, and decoded from a point of them. {given}Encoder: "
            f"{inline(self.encoder)}. "
            f"Decoder: {inline(self.decoder)}. Posterior: `{config['posterior']}`{f' ({scale})' if scale else ''}, "
            f"{pooling}; the latent enters the decoder by {way}. {floor}"
        )

    def render_figures(self) -> str:
        """The figures as tables in Markdown, under N(0, I) and under a fitted prior."""
        figures = known_figures({"latent_size": self.config["latent_size"], **self.figures})
        lines = figure_lines(figures)
        return "\n".join([*lines, "", *prior_lines(figures)]).strip("\n")

    def _probe(self) -> str:
        if self.probe is None:
            return ""
        first = self.probe["results"]["means"]
        about = (
            f"Labels: {inline(self.probe['labels'])}, {first['num_classes']} classes, {first['num_test']} test texts."
        )
        return "\n".join([*probe_table(self.probe["results"]), "", about])

    def _examples(self) -> str:
        if self.examples is None:
            return ""
        return render_examples(Examples(**self.examples))

    def _directions(self) -> str:
        if not self.directions:
            return ""
        rows = [
            [
                inline(row["name"]),
                f"{inline(row['negative'])} ({row['num_negative']} texts)",
                f"{inline(row['positive'])} ({row['num_positive']} texts)",
                f"{row['scale']:.2f}",
                "" if row["held_out_accuracy"] is None else f"{row['held_out_accuracy']:.2f}",
            ]
            for row in self.directions
        ]
        return "\n".join(markdown_table(["name", "from", "to", "apart", "held-out accuracy"], rows))

    def _training(self) -> str:
        count = "" if self.num_train_texts is None else f"{self.num_train_texts} of "
        lines = [f"- Texts: {count}{inline(self.texts)}"]
        lines += [f"- SHA-256 of the {_HASHES[name]}: {inline(value)}" for name, value in self.hashes.items()]
        if self.hardware:
            lines.append(f"- Hardware: {inline(self.hardware)}")
        if self.versions:
            versions = (f"{name.removesuffix('_version')} {value}" for name, value in self.versions.items())
            lines.append(f"- Versions: {inline(', '.join(versions))}")
        if self.settings:
            settings = "; ".join(f"{name} {value}" for name, value in self.settings.items())
            lines.append(f"- Settings: {inline(settings)}")
        if self.command:
            lines += ["", fenced(self.command, "bash")]
        return "\n".join(lines)

    def _limits(self) -> list[str]:
        limits = []
        bleu = self.figures.get("reconstruction_bleu")
        if bleu is not None:
            limits.append(
                "A text does not survive encoding and decoding word for word: reconstructions have a BLEU of "
                f"{bleu:.1f} of 100."
            )
        if self.figures.get("mutual_information") is not None and is_near_log_n(
            self.figures["mutual_information"], self.figures["log_num_sentences"]
        ):
            limits.append("The mutual information is within 1 nat of the most that could be measured: a lower bound.")
        limits.append(
            f"Trained on {inline(self.texts)}: texts of another kind, length or language are encoded and decoded "
            "worse, and the figures say nothing about them."
        )
        limits.append("What is wrong with its training texts and with the pretrained networks is in its texts, too.")
        return limits


def _without_texts(examples: Mapping[str, Any]) -> dict[str, Any]:
    """Examples without the texts and conditions of a file, whose owner has not said that they may be shown."""
    hidden = {} if examples.get("conditions") is None else {"conditions": []}
    return {**examples, "reconstructions": [], **hidden}


def write_card(folder: str | Path, repo_id: str) -> Path | None:
    """
    Write the card of a folder that will be pushed ([`BNVAEModelCard.of_weights`]), with the model's name on the Hub. A
    card that somebody wrote or changed by hand is kept.

    Args:
        folder (`str` or `Path`): The folder of the model.
        repo_id (`str`): The model's whole name on the Hub.

    Returns:
        `Path`: the card's file; `None` if somebody's card was kept.
    """
    name = repo_id.rpartition("/")[2]
    card = BNVAEModelCard.of_weights(folder)
    title = name if card.model_name == card.repo_id.rpartition("/")[2] else card.model_name
    return replace(card, repo_id=repo_id, model_name=title).save(folder)


def seal(card: str) -> str:
    """A card with a last line that tells whether somebody has changed the card since."""
    text = card.rstrip("\n")
    return f"{text}\n<!-- hf_bnvae wrote this card: {_digest(text)} -->\n"


def is_sealed(card: str) -> bool:
    """Whether a card is unchanged since [`seal`]. Only such a card may be replaced."""
    card = card.replace("\r\n", "\n")
    mark = _SEAL.search(card)
    return mark is not None and mark.group(1) == _digest(card[: mark.start()])


def is_blank(card: str) -> bool:
    """Whether a card is the empty card that `push_to_hub` of Transformers writes."""
    form = ModelCard.from_template(ModelCardData(), model_description=_BLANK).text
    # The metadata are removed without being parsed, because somebody's metadata may be damaged.
    return REGEX_YAML_BLOCK.sub("", card, count=1).strip() == form.strip()


def _weights_digest(folder: Path) -> str | None:
    """SHA-256 of the weights in a folder; `None` if it has none."""
    files = sorted(folder.glob("model*.safetensors"))
    digest = hashlib.sha256()
    for file in files:
        digest.update(bytes.fromhex(sha256_of(file)))
    return digest.hexdigest() if files else None


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def latent_space(config: BNVAEConfig) -> dict[str, Any]:
    """The part of a configuration that a card shows."""
    names = ("posterior", "latent_size", "pooling", "normalize_features", "latent_injection", "encoder_dropout")
    scale = {name: getattr(config, name) for name in _SCALES if getattr(config, name) is not None}
    shown = {name: getattr(config, name) for name in names} | {"scale": scale, "kl_floor": config.kl_floor}
    return shown | ({"conditional": True} if config.conditional else {})


def shown_direction(direction: Direction) -> dict[str, Any]:
    """The parts of a direction that a card shows."""
    names = ("name", "negative", "positive", "num_negative", "num_positive", "scale", "held_out_accuracy")
    return {name: getattr(direction, name) for name in names}


def known_figures(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values whose names are names of figures of an evaluation."""
    names = {f.name for f in fields(EvaluationResult)}
    return {name: value for name, value in values.items() if name in names}


def shown_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a training that a card shows."""
    return {name: settings[name] for name in names_with_role(Role.SHOWN) if settings.get(name) not in (None, -1)}


def remote_loading_lines(repo_id: str) -> str:
    """Python that loads a model from the Hub without this package."""
    return "\n".join(
        [
            "from transformers import AutoModel, AutoProcessor",
            f"model = AutoModel.from_pretrained({repo_id!r}, trust_remote_code=True)",
            f"processor = AutoProcessor.from_pretrained({repo_id!r}, trust_remote_code=True)",
            "model.eval().attach_processor(processor)",
        ]
    )


def _figure_names() -> list[tuple[str, str]]:
    """The figures in the metadata: their names, and their labels with units. The number of sentences is no figure."""
    shown = [f for f in fields(EvaluationResult) if f.metadata["label"] and f.metadata["unit"] != "count"]
    units = {f.name: "" if f.metadata["unit"] == "1" else f" ({f.metadata['unit']})" for f in shown}
    return [(f.name, f.metadata["label"] + units[f.name]) for f in shown]


def _networks(config: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of the card about encoder and decoder, from a saved configuration."""
    names = {part: config[part].get("_name_or_path") for part in ("encoder", "decoder")}
    words = {part: name if is_hub_name(name) else _sizes(config[part]) for part, name in names.items()}
    return words | {"base_models": [name for name in names.values() if is_hub_name(name)]}


def _sizes(config: Mapping[str, Any]) -> str:
    layers = next((config[n] for n in ("num_hidden_layers", "n_layer", "num_layers") if config.get(n)), None)
    width = next((config[n] for n in ("hidden_size", "n_embd", "d_model") if config.get(n)), None)
    known = [f"{layers} layers" if layers else "", f"width {width}" if width else ""]
    return ", ".join([f"{config['model_type']}", *(part for part in known if part)])


def _from_run(run: Mapping[str, Any]) -> dict[str, Any]:
    """The card's fields that say how a model was trained, from what `run.json` holds."""
    settings = run["settings"]
    dataset = settings.get("dataset_name")
    known = {
        "texts": training_texts(settings),
        "datasets": [dataset] if is_hub_name(dataset) else [],
        "hashes": {name: settings[name] for name in _HASHES if name in settings},
        "evaluated_on": TextSource.held_out_by_run(settings).public_name,
        "settings": shown_settings(settings),
        "command": run.get("command"),
    }
    if is_hub_name(settings.get("model_name_or_path")):
        known["base_models"] = [settings["model_name_or_path"]]
    if dataset is None and settings.get("train_file") is None:
        known["language"] = "en"
    return known


def _from_training_report(report: Mapping[str, Any]) -> dict[str, Any]:
    """The card's fields that say on what a model was trained, from what a training run's `report.json` holds."""
    return {
        "num_train_texts": report["training"]["num_texts"],
        "num_parameters": report["model"]["num_parameters"],
        "versions": dict(sorted(report["versions"].items())),
        "hardware": report["hardware"],
    }


def _read(file: Path) -> dict[str, Any]:
    """The JSON object in a file; an empty one if there is no file."""
    return read_json(file) if file.is_file() else {}
