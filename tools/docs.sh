#!/usr/bin/env bash
# Checks the documents' links. Where doxygen is installed (apt-get install doxygen), also builds pages of the public
# headers into build/docs/html and fails on its warnings.
set -euo pipefail
cd "$(dirname "$0")/.."
python3 tools/check_docs.py
if ! command -v doxygen >/dev/null; then
  echo "docs: links are good; doxygen is not installed, so no API pages were made" >&2
  exit 0
fi
mkdir -p build/docs
doxygen - <<'CONFIG'
PROJECT_NAME = plural
INPUT = include/plural
RECURSIVE = YES
FILE_PATTERNS = *.h
EXCLUDE_PATTERNS = */build/*
OUTPUT_DIRECTORY = build/docs
GENERATE_LATEX = NO
HAVE_DOT = NO
MARKDOWN_SUPPORT = YES
EXTRACT_ALL = YES
WARN_IF_UNDOCUMENTED = NO
WARN_AS_ERROR = FAIL_ON_WARNINGS
QUIET = YES
CONFIG
echo "docs: build/docs/html/index.html" >&2
