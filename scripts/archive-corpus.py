#!/usr/bin/env python3
"""Makes the recorded corpus of docs/MEASUREMENTS.md: conversations of people, one a line as JSON: [[is_visitor, text], ...].

    archive-corpus.py DIR OUT      DIR holds git checkouts (bare ones will do) named CrossWOZ, Taskmaster and dstc8

CrossWOZ (thu-coai/CrossWOZ, Apache-2.0): Chinese, written by two people each; `val` trains the dictionary, `test` is measured.
Taskmaster-4 (google-research-datasets/Taskmaster, CC BY 4.0): English, written by one person for both; data_00 and data_01 train,
data_05 is measured. dstc8 (google-research-datasets/dstc8-schema-guided-dialogue): English, measured only: of other trades, so that a
dictionary that knows only its own corpus is found out.
"""
import io
import json
import subprocess
import sys
import zipfile
from pathlib import Path


def show(repo, path):
    return subprocess.run(["git", "-C", repo, "show", f"HEAD:{path}"], check=True, capture_output=True).stdout


def crosswoz(repo, part):
    archive = zipfile.ZipFile(io.BytesIO(show(repo, f"data/crosswoz/{part}.json.zip")))
    talks = json.loads(archive.read(f"{part}.json"))
    return [[[said["role"] == "usr", said["content"]] for said in talk["messages"]] for talk in talks.values()]


def taskmaster(repo, number):
    talks = json.loads(show(repo, f"TM-4-2024/data/data_{number:02}.json"))
    return [[[said["speaker"] == "user", said["text"]] for said in talk["utterances"]] for talk in talks]


def dstc8(repo, number):
    talks = json.loads(show(repo, f"test/dialogues_{number:03}.json"))
    return [[[said["speaker"] == "USER", said["utterance"]] for said in talk["turns"]] for talk in talks]


def main():
    repos, out = Path(sys.argv[1]), Path(sys.argv[2])
    zh, en, other = (str(repos / name) for name in ("CrossWOZ", "Taskmaster", "dstc8"))
    parts = {
        "train": crosswoz(zh, "val") + taskmaster(en, 0) + taskmaster(en, 1),
        "zh": crosswoz(zh, "test"),
        "en": taskmaster(en, 5),
        "en-other": [talk for number in range(1, 9) for talk in dstc8(other, number)],
    }
    out.mkdir(parents=True, exist_ok=True)
    for name, talks in parts.items():
        talks = [talk for talk in talks if talk and all(text for _, text in talk)]
        lines = [json.dumps(talk, ensure_ascii=False) for talk in talks]
        (out / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
        print(name, len(talks), "conversations", sum(map(len, talks)), "messages")


main()
