"""Renders test/data/templates with Python's jinja2, set up as transformers sets it up, into
test/golden/templates.json. With GGUF files as arguments, their own templates are rendered too (named by SHA-256).

    python scripts/golden/templates.py [FILE.gguf ...]        needs jinja2, and gguf for the files
"""

import datetime
import hashlib
import json
import pathlib
import sys

import jinja2
from jinja2.ext import Extension
from jinja2.sandbox import ImmutableSandboxedEnvironment

ROOT = pathlib.Path(__file__).resolve().parents[2]
NOW = datetime.datetime(2025, 3, 4, 15, 6, 7)


class Generation(Extension):
    """{% generation %} marks what the model wrote and prints it as it is."""

    tags = {"generation"}

    def parse(self, parser):
        next(parser.stream)
        return parser.parse_statements(["name:endgeneration"], drop_needle=True)


def raise_exception(message):
    raise jinja2.exceptions.TemplateError(message)


def to_json(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def environment():
    env = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols]
    )
    env.filters["tojson"] = to_json
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = NOW.strftime
    return env


def file_template(path):
    from gguf import GGUFReader

    field = GGUFReader(path).get_field("tokenizer.chat_template")
    return None if field is None else field.contents()


def main():
    data = json.loads((ROOT / "test/data/templates.json").read_text())
    sources = {p.stem: p.read_text() for p in sorted((ROOT / "test/data/templates").glob("*.jinja"))}
    for path in sys.argv[1:]:
        source = file_template(path)
        if source is not None:
            sources["sha256:" + hashlib.sha256(source.encode()).hexdigest()] = source
    out = {}
    for name, source in sources.items():
        template = environment().from_string(source)
        for conversation, messages in data["conversations"].items():
            for tools in (None, data["tools"]):
                for prompt in (True, False):
                    case = f"{name}/{conversation}{'/tools' if tools else ''}{'/prompt' if prompt else ''}"
                    extra = {"tools": tools} if tools else {}
                    try:
                        text = template.render(
                            messages=messages,
                            add_generation_prompt=prompt,
                            bos_token="<s>",
                            eos_token="</s>",
                            **extra,
                        )
                        out[case] = {"text": text}
                    except jinja2.exceptions.TemplateError as error:
                        out[case] = {"error": str(error)}
    path = ROOT / "test/golden/templates.json"
    path.write_text(json.dumps(out, ensure_ascii=False, indent=1) + "\n")
    print(f"{len(out)} cases, jinja2 {jinja2.__version__}, {path.stat().st_size} bytes")


main()
