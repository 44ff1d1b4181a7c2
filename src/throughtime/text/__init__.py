"""From files to words to ids."""

from throughtime.text.builtin import Document, builtin_documents
from throughtime.text.choices import TextChoices
from throughtime.text.corpus import Corpus, EncodedText, encode_text, open_corpus, prepare
from throughtime.text.reading import Tally, read_text
from throughtime.text.segment import sentences, split_lines
from throughtime.text.sources import Source, find_sources
from throughtime.text.tokens import BLANK, PARAGRAPH_END, SENTENCE_END, UNKNOWN, detokenise, tokenise
from throughtime.text.vocabulary import Vocabulary

__all__ = [
    "BLANK",
    "PARAGRAPH_END",
    "SENTENCE_END",
    "UNKNOWN",
    "Corpus",
    "Document",
    "EncodedText",
    "Source",
    "Tally",
    "TextChoices",
    "Vocabulary",
    "builtin_documents",
    "detokenise",
    "encode_text",
    "find_sources",
    "open_corpus",
    "prepare",
    "read_text",
    "sentences",
    "split_lines",
    "tokenise",
]
