"""The configuration of a run: every option is declared here once, with its default, its limits and its help.

The command line's help, `tinyforge config`, the strictness of recipes and the copy saved in each run all come from
these classes. recipe.py reads a recipe and ``--set`` into them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False, protected_namespaces=())


class IngestConfig(_Section):
    query: str = Field("", description="What is read from a database source: a SELECT; build and ingest: --query.")
    api_items: str = Field(
        "", description="Where the items are in a REST endpoint's answer (data.posts). Empty: its one list."
    )
    api_next: str = Field(
        "",
        description="Where an endpoint's next page is: link (its Link header), body:FIELD, cursor:FIELD:PARAMETER, "
        "page:PARAMETER, offset:PARAMETER, none. Empty: the header, or the field that most call it by.",
    )
    api_headers: list[str] = Field(
        [],
        description="Headers for an endpoint, such as 'Authorization: Bearer {TOKEN}': {TOKEN} is taken from the "
        "environment and kept nowhere; build and ingest: --header.",
    )
    private_hosts: list[str] = Field(
        [], description="Hosts or addresses to read from over the network although they are not public."
    )
    max_file_mb: float = Field(50.0, gt=0, description="Files larger than this many megabytes are refused, by name.")
    timeout_seconds: float = Field(30.0, gt=0, description="A file that takes longer to read is refused, by name.")
    memory_mb: float = Field(
        512.0, ge=32, description="A file that takes more memory to read, in megabytes, is refused, by name."
    )
    archive_mb: float = Field(1000.0, gt=0, description="An archive that unpacks to more megabytes is refused.")
    archive_files: int = Field(20_000, ge=1, description="An archive with more files in it is refused.")
    redact: Literal["auto", "on", "off"] = Field(
        "auto",
        description="Replace by stand-ins, before anything is stored: auto keys, passwords, account and card numbers; "
        "on e-mail and network addresses and phone numbers as well; off nothing.",
    )
    web_pages: int = Field(200, ge=1, description="Read at most this many pages of a site.")
    web_depth: int = Field(5, ge=0, description="Follow links of a site at most this many steps from its start.")
    web_mb: float = Field(200.0, gt=0, description="Fetch at most this many megabytes from a site.")
    web_seconds: float = Field(
        0.5, ge=0, description="Seconds between two requests to a site; its robots.txt may ask for more."
    )


class ChatsConfig(_Section):
    persona: str = Field("", description="Whose turns in a chat become the assistant's; nobody else's are learned.")
    gap_minutes: float = Field(60.0, gt=0, description="A pause longer than this begins a new conversation.")
    max_characters: int = Field(
        1200, ge=100, description="Longer conversations are cut before a question, so that each row is at most this."
    )
    keep_pii: bool = Field(
        False, description="Keep names, addresses, numbers and secrets instead of replacing them by stand-ins."
    )


class SynthesizeConfig(_Section):
    wordings: int = Field(16, ge=5, le=64, description="Question wordings made for each fact.")
    max_answer_characters: int = Field(320, ge=40, description="Answers longer than this are not taken as facts.")
    facts_per_section: int = Field(4, ge=1, description="At most this many facts from one section.")
    rounds: int = Field(
        4, ge=1, description="A teacher is asked in at most this many rounds; each goes where coverage is missing."
    )
    focus: str = Field(
        "", description="A report.json: up to twice the wordings, and more of a teacher, where its model is wrong."
    )
    teacher: str = Field(
        "",
        description="Who writes further examples: URL#model of an OpenAI-compatible endpoint, openai#model, a run, a "
        "folder or a base. Empty: rules alone.",
    )
    teacher_examples: int = Field(0, ge=0, description="Examples asked of the teacher; 0: as many as the rules' facts.")
    teacher_concurrency: int = Field(8, ge=1, le=256, description="Most calls to the teacher at once.")
    teacher_temperature: float = Field(0.7, ge=0, le=2, description="Of an endpoint; a local teacher is greedy.")
    teacher_answer_tokens: int = Field(1024, ge=64, description="Longest reply of the teacher, in tokens.")
    teacher_timeout: float = Field(120.0, gt=0, description="Seconds without a byte after which a call is repeated.")
    teacher_requests: int = Field(0, ge=0, description="Budget: most calls to the teacher, in all; 0 sets no limit.")
    teacher_tokens: int = Field(0, ge=0, description="Budget: most tokens, read and written; 0 sets no limit.")
    teacher_price: float = Field(0.0, ge=0, description="Budget: most money, by the two prices; 0 sets no limit.")
    price_in: float = Field(0.0, ge=0, description="Price of a million tokens that the teacher reads.")
    price_out: float = Field(0.0, ge=0, description="Price of a million tokens that the teacher writes.")
    reader: Literal["quote", "teacher"] = Field(
        "quote",
        description="Who must recover a teacher's answers from the passages: the quoting reader, or the teacher.",
    )

    def decisive(self) -> dict[str, Any]:
        """The options that the examples depend on."""
        return self.model_dump(exclude={"focus", "teacher_concurrency", "teacher_timeout"})


class DatasetConfig(_Section):
    test_fraction: float = Field(0.12, gt=0, lt=0.5, description="Share of fact clusters that are never trained on.")
    dev_fraction: float = Field(0.06, gt=0, lt=0.5, description="Share of fact clusters kept for choosing checkpoints.")
    held_out_wordings: int = Field(2, ge=1, description="Wordings of each trained fact kept for the wordings test.")
    reading_share: float = Field(
        0.25,
        ge=0,
        le=1,
        description="Share of training questions that also appear with sentences that retrieval found; with whole "
        "passages, which are about six times as long, only a sixth of it.",
    )
    validation_split: float = Field(
        0.1, ge=0, lt=1, description="train: share of the rows kept for the dev loss; 0 keeps none."
    )
    max_length: int = Field(1024, ge=64, description="Longest example in tokens.")


class TrainConfig(_Section):
    objective: str = Field(
        "auto", description="What is learned: auto decides by the data; or pretrain, sft, dpo, distill, classify, ..."
    )
    method: str = Field(
        "auto",
        description="What is trained: every weight (full) or adapters (lora, rslora, dora, qlora, or a PEFT method by "
        "name); auto takes full up to 100M parameters, lora above.",
    )
    epochs: float = Field(
        0.0,
        ge=0,
        description="Passes over the examples; 0 takes three, or as many as make 200 steps (one to pretrain).",
    )
    max_steps: int = Field(0, ge=0, description="Stop after this many optimizer steps; 0 means no limit.")
    max_minutes: float = Field(
        0.0,
        ge=0,
        description="Stop after this many minutes of training, counted over all resumes; 0 means no limit. The "
        "running step and a last dev loss are still finished. The learning rate then falls with the time, so that a "
        "second run, or a resumed one, is not bit-identical.",
    )
    learning_rate: float = Field(0.0, ge=0, description="Peak learning rate; 0 chooses one for the method.")
    optimizer: Literal["adamw", "muon"] = Field(
        "adamw", description="muon applies to hidden matrices; the rest always use AdamW."
    )
    muon_learning_rate: float = Field(0.02, gt=0, description="Peak learning rate of the matrices under muon.")
    optimizer_bits: Literal[8, 32] = Field(
        32, description="Bits of each of AdamW's two moments; 8 takes a quarter of their memory, and slower steps."
    )
    weight_decay: float = Field(0.01, ge=0, description="Decoupled weight decay, on matrices only.")
    max_gradient_norm: float = Field(1.0, gt=0, description="Gradients are clipped to this global norm.")
    schedule: Literal["linear", "cosine", "wsd"] = Field(
        "linear", description="After the warm-up: linear or cosine to zero, or stable then decay (wsd)."
    )
    warmup_fraction: float = Field(0.05, ge=0, lt=1, description="Share of the steps spent warming up.")
    decay_fraction: float = Field(0.2, gt=0, le=1, description="Share of the steps that decay, under wsd.")
    batch_tokens: int = Field(2048, ge=32, description="Tokens per micro-batch, padding included.")
    batch_rows: int = Field(0, ge=0, description="At most this many examples per micro-batch; 0 sets no limit.")
    accumulation: int = Field(1, ge=1, description="Micro-batches per optimizer step.")
    packing: bool = Field(
        True, description="Lay the rows of a batch end to end instead of padding them, where the model can be told."
    )
    precision: Literal["auto", "fp32", "bf16"] = Field(
        "auto", description="Compute precision; auto probes whether bf16 is faster on this machine."
    )
    gradient_checkpointing: bool = Field(
        False, description="Compute activations again in the backward pass: less memory, about a third more time."
    )
    compile: Literal["off", "on"] = Field(
        "off",
        description="Compile the training steps with torch.compile: a minute or more at the start, which on CPUs was "
        "not won back. A run resumed with it may differ in the last digits.",
    )
    threads: int = Field(
        0,
        ge=0,
        description="CPU threads, of all processes together; 0 takes every core, or as many as OMP_NUM_THREADS says. "
        "Exact resume needs the same number.",
    )
    device: Literal["auto", "cpu", "cuda", "mps"] = Field(
        "auto", description="Where the model is trained; auto takes a CUDA GPU when there is one, else the CPU."
    )
    processes: int = Field(
        0,
        ge=0,
        description="Worker processes on this machine that share each step's rows: one for each GPU, or some of the "
        "CPU's cores; 0 is one, or those that torchrun started. Exact resume needs the same number.",
    )
    accelerate_config: str = Field(
        "", description="A file written by `accelerate config`: with fsdp_version 2 the workers also share the weights."
    )
    evaluations: int = Field(12, ge=1, description="How often the dev loss is measured over the run.")
    patience: int = Field(4, ge=1, description="Stop after this many dev measurements without improvement.")
    divergence_steps: int = Field(
        8,
        ge=0,
        description="Stop after this many steps whose loss is far above normal; 0 never does. A loss, gradient or "
        "weight that is not a finite number always stops the training.",
    )
    divergence_deviations: float = Field(
        8.0, gt=0, description="Robust standard deviations above the largest at which a loss is far above normal."
    )
    guard: bool = Field(
        True, description="Measure what a fine-tuned model forgets: bits per byte of general text before and after."
    )
    replay_share: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="Share of each epoch's tokens that is general running text, against forgetting; 0 mixes none in.",
    )
    replay: str = Field(
        "",
        description="Where the general text comes from: a file or folder of text, JSON lines or Parquet. Empty: the "
        "base writes it before the training begins.",
    )
    trackers: list[str] = Field([], description="Also report to: tensorboard, wandb, mlflow, trackio.")
    checkpoint_seconds: float = Field(20.0, gt=0, description="Seconds between checkpoints (also at each dev loss).")
    memory_gb: float = Field(
        0.0, ge=0, description="Gigabytes (1e9 bytes) that training may hold; 0 takes what the machine has free."
    )
    price_per_hour: float = Field(0.0, ge=0, description="What an hour on this machine costs, to state a run's cost.")
    lora_rank: int = Field(16, ge=1, description="Rank of the LoRA matrices.")
    lora_alpha: float = Field(32.0, gt=0, description="LoRA scale: updates are multiplied by alpha / rank.")
    lora_dropout: float = Field(0.0, ge=0, lt=1, description="Dropout before the LoRA matrices.")
    all_tokens: bool = Field(False, description="sft: learn every token of a conversation, not the assistant's alone.")
    preference_loss: Literal["dpo", "ipo", "kto"] = Field("dpo", description="dpo: which loss on preference pairs.")
    preference_beta: float = Field(0.1, gt=0, description="dpo: how strongly the tuned model is held to its reference.")
    teacher: str = Field(
        "",
        description="distill: the model to learn from: a folder, a run, a base or a hub id; or the address URL#model, "
        "whose answers are then learned.",
    )
    distill_temperature: float = Field(2.0, gt=0, description="distill: softens both distributions.")
    distill_share: float = Field(0.5, ge=0, le=1, description="distill: weight of the teacher's part of the loss.")
    distill_hidden: float = Field(
        0.0,
        ge=0,
        description="distill: weight of one minus the cosine between the last hidden states of student and teacher, "
        "which must be equally wide (as in DistilBERT).",
    )

    def decisive(self) -> dict[str, Any]:
        """The options that the trained weights depend on: with others changed, a training goes on where it was."""
        stopping = {"checkpoint_seconds", "divergence_steps", "divergence_deviations"}
        where = {"device", "processes", "accelerate_config"}
        return self.model_dump(exclude={*stopping, *where, "trackers", "memory_gb", "price_per_hour"})


SMALL = 100_000_000  # parameters up to which a model is given sentences to read, not passages


class RetrieveConfig(_Section):
    embedding_model: str = Field("minilm", description="minilm (offline all-MiniLM-L6-v2), a folder, or a hub id.")
    passage_characters: int = Field(900, ge=200, description="Sections are cut into passages of about this length.")
    passages: int = Field(3, ge=1, le=10, description="Passages given to the model with a question.")
    sentences: int = Field(
        4,
        ge=0,
        le=20,
        description="Models of up to 100M parameters are given, of these passages, only so many sentences, those "
        "nearest to the question first; 0 gives them whole, as larger models are always given them.",
    )

    def shown_sentences(self, parameters: int) -> int:
        """How many sentences of its passages a model of this size is given; 0: the passages whole."""
        return self.sentences if parameters <= SMALL else 0


class EvaluateConfig(_Section):
    max_questions: int = Field(150, ge=10, description="Most questions asked from each held-out set.")
    max_new_tokens: int = Field(96, ge=8, description="Longest generated answer in tokens.")
    shots: int = Field(
        3, ge=0, le=32, description="Examples in the few-shot prompt of the base; 0 leaves this comparison out."
    )
    resamples: int = Field(2000, ge=200, description="Bootstrap resamples behind each interval.")
    metrics: list[str] = Field(
        [], description="Also measure these, by name; FILE.py:function, a metric of your own, only on the command line."
    )


class ServeConfig(_Section):
    host: str = Field("127.0.0.1", description="Address to listen on; any but this machine's own needs an API key.")
    port: int = Field(8000, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    hosts: list[str] = Field([], description="More names by which clients reach the server (their Host header).")
    engine: Literal["auto", "transformers", "llamacpp", "vllm"] = Field(
        "auto",
        description="What runs the models; auto takes llamacpp for runs with an exported GGUF file, else transformers.",
    )
    slots: int = Field(8, ge=1, le=256, description="Answers of one base that are written at the same time.")
    waiting: int = Field(64, ge=0, description="Requests that may wait for a slot; beyond them there is a 429.")
    body_mb: float = Field(4.0, gt=0, description="Requests with a larger body, in megabytes, are refused.")
    drain_seconds: float = Field(
        30.0, ge=0, description="After SIGTERM, seconds in which answers under way may finish; then they are ended."
    )
    log_prompts: bool = Field(False, description="Also log what is asked and answered, not only sizes and times.")
    manage_adapters: bool = Field(False, description="Let clients add and remove adapters (POST and DELETE).")


class PretrainConfig(_Section):
    vocabulary: int = Field(8192, ge=512, description="Tokens in the byte-level BPE vocabulary.")
    hidden: int = Field(256, ge=16, description="Width of the model.")
    layers: int = Field(6, ge=1, description="Transformer blocks.")
    heads: int = Field(4, ge=1, description="Query heads.")
    kv_heads: int = Field(2, ge=1, description="Key and value heads (grouped-query attention).")
    intermediate: int = Field(704, ge=16, description="Width of the MLP.")
    rope_theta: float = Field(
        500_000.0, gt=1, description="Base of the rotary position angles; a larger one lets heads match over distance."
    )
    context: int = Field(2048, ge=64, description="Longest sequence the model accepts, in tokens.")
    sequence: int = Field(1024, ge=32, description="Longest sequence trained on, in tokens.")
    validation_fraction: float = Field(0.005, gt=0, lt=0.5, description="Share of documents held out.")
    tokens: int = Field(0, ge=0, description="Train on this many tokens; 0 uses train.epochs instead.")
    reading_tokens: int = Field(
        0,
        ge=0,
        description="After pretraining, teach reading on this many tokens of questions over the corpus.",
    )
    reading_only: list[str] = Field(
        [],
        description="Documents whose name matches one of these patterns give reading questions only, no running text.",
    )
    reading_test_fraction: float = Field(
        0.02, ge=0, lt=0.5, description="Share of the reading_only documents held out, besides validation_fraction."
    )
    reading_choices: float = Field(
        0.12,
        ge=0,
        lt=1,
        description="Share of reading_tokens that comes first: which of several short passages is meant.",
    )
    declining_tokens: int = Field(
        0,
        ge=0,
        description="Tokens of a last part, in which more of the questions are not answered by what is shown; 0: none.",
    )
    reading_sequence: int = Field(1024, ge=64, description="Longest sequence while teaching to read, in tokens.")
    reading_batch_tokens: int = Field(4096, ge=64, description="Padded tokens in a batch while teaching to read.")
    reading_learning_rate: float = Field(1e-3, gt=0, description="Peak AdamW learning rate while teaching to read.")
    reading_muon_learning_rate: float = Field(
        0.01, gt=0, description="Peak learning rate of the hidden matrices while teaching to read, with muon."
    )
    reading_decay_fraction: float = Field(
        0.6,
        gt=0,
        le=1,
        description="Last share of the steps, over which the rates fall to 0, while teaching to read.",
    )
    hub_characters: int = Field(
        200_000_000, ge=1000, description="Read at most this many characters of each hub: dataset."
    )
    near_duplicate: float = Field(0.8, gt=0, le=1, description="Documents this similar (MinHash Jaccard) are dropped.")


SIZES: dict[str, dict[str, int]] = {
    "tiny": {"vocabulary": 8192, "hidden": 256, "layers": 6, "heads": 4, "kv_heads": 2, "intermediate": 704},
    "small": {"vocabulary": 16384, "hidden": 512, "layers": 12, "heads": 8, "kv_heads": 4, "intermediate": 1408},
}
"""Shapes by name for pretraining: 6.5 and 44 million parameters."""


class Config(_Section):
    seed: int = Field(42, ge=0, description="Seed of every random choice.")
    base: str = Field("tiny", description="Base model: tiny (embedded), a folder, or a hub id.")
    trust_remote_code: bool = Field(False, description="Run code that a hub model brings. Only from the command line.")
    ingest: IngestConfig = IngestConfig()
    chats: ChatsConfig = ChatsConfig()
    synthesize: SynthesizeConfig = SynthesizeConfig()
    dataset: DatasetConfig = DatasetConfig()
    train: TrainConfig = TrainConfig()
    retrieve: RetrieveConfig = RetrieveConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    pretrain: PretrainConfig = PretrainConfig()
    serve: ServeConfig = ServeConfig()


def options() -> Iterator[tuple[str, str, Any, str]]:
    """Every option as ``(key, type, default, help)``, in the order of declaration."""

    def walk(model: type[BaseModel], prefix: str) -> Iterator[tuple[str, str, Any, str]]:
        for name, field in model.model_fields.items():
            if isinstance(field.default, BaseModel):
                yield from walk(type(field.default), f"{prefix}{name}.")
            else:
                kind = getattr(field.annotation, "__args__", None)
                shown = " | ".join(map(str, kind)) if kind else getattr(field.annotation, "__name__", "?")
                yield f"{prefix}{name}", shown, field.default, field.description or ""

    return walk(Config, "")
