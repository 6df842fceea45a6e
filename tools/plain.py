"""MyST as plain Markdown, for readers outside of the HTML book."""

import functools
import re
import urllib.parse

from markdown_it import MarkdownIt
from pybtex.database import parse_file
from pybtex.richtext import Text

from tools import chapters

LABELS = {"note": "Note", "warning": "Warning"}
FENCE = re.compile(r"(\s*)(:{3,}|~{3,}|`{3,}(?=[^`]*$))(?:\{([^}]*)\})?\s*(.*)")
OPTION = re.compile(r"\s*:([\w-]+):(.*)")
SOME = r"(?:(?!\n\s*\n)[\s\S])+?"  # within a paragraph
SPAN = re.compile(  # what is looked at, or left alone, inside of a paragraph
    r"\{(?P<role>[\w:.-]+)\}`(?P<keys>[^`]*)`"
    rf"|(?P<code>(?<![\\`])(?P<ticks>`+)(?!`|(?<=```)\{{){SOME}(?<!`)(?P=ticks)(?!`))"
    rf"|(?P<math>\\begin\{{(?P<name>\w+\*?)\}}{SOME}\\end\{{(?P=name)\}}"
    rf"|(?<!\\)\$\$(?!\$){SOME}\$\$"
    r"|(?<![\\$])\$(?![\s$])[^$\n]*?(?<![\s\\])\$(?!\d))"
    r"|(?P<image>!?)\[(?P<words>(?:[^\[\]]|\[[^\[\]]*\])*)\]"
    r"\(<?(?P<target>[^()\s<>]*)>?(?:\s+\"[^\"]*\")?\)"
)
ELSEWHERE = re.compile(r"#|//|[A-Za-z][A-Za-z0-9+.-]*:")  # a link that needs no file
LEFT = re.compile(  # what must not survive outside of code and maths
    r"^[\s>*+\d.)-]*:{3,}.*|[`~]{3,}\{.*|\{[\w:.-]+\}`.*|^\s*\([\w-]+\)=\s*$"
    r"|^\s*\[[^\]]+\]:\s+(?!\w+:)\S+\.(?:ipynb|md)\b"
    r"|(?:<|href=[\"'])(?!\w+:)[^\s<>\"']+\.(?:ipynb|md)\b",
    re.MULTILINE,
)


def markdown(source, path, references):
    """A cell's MyST as plain Markdown; path: its notebook, for the links."""
    span = functools.partial(_span, path=path, references=references)
    return "\n".join(_blocks(source.split("\n"), span, quoted=False))


def _blocks(lines, span, quoted):
    """The lines with each directive rewritten and each code fence left alone."""
    done, prose, at = [], [], 0
    while at < len(lines):
        fence = FENCE.fullmatch(lines[at])
        if not fence:
            prose.append(lines[at])
            at += 1
            continue
        done += _prose(prose, span, quoted)
        end = _end(lines, at, fence[2])
        if end == len(lines):
            raise ValueError(f"{lines[at].strip()!r} is opened and never closed")
        if fence[3] is None and fence[2][0] != ":":
            done += lines[at : end + 1]
        else:
            done += [""] if done and done[-1].strip() else []
            done += _directive(fence, lines[at + 1 : end], span, quoted)
            done += [""] if "".join(lines[end + 1 : end + 2]).strip() else []
        prose, at = [], end + 1
    return done + _prose(prose, span, quoted)


def _end(lines, start, mark):
    """The number of the line that closes the fence, or how many lines there are."""
    close = re.compile(rf"\s*{mark[0]}{{{len(mark)},}}\s*")
    after = range(start + 1, len(lines))
    return next((at for at in after if close.fullmatch(lines[at])), len(lines))


def _directive(fence, body, span, quoted):
    """A note or warning as a quote with a label, a dropdown as <details>."""
    indent, _, name, title = fence.groups()
    if name not in (*LABELS, "dropdown"):
        raise ValueError(
            f"{fence[0].strip()!r} is no directive that plain Markdown can show: use "
            "note, warning or dropdown"
        )
    body = [line.removeprefix(indent) for line in body]
    options = {}
    while body and (option := OPTION.fullmatch(body[0])):
        options[option[1]] = option[2].strip()
        body = body[1:]
    if name == "dropdown":
        title = MarkdownIt().renderInline(*_prose([title or "More"], span, quoted))
        mark = "<details open>" if "open" in options else "<details>"
        body = _trim(_blocks(body, span, quoted))
        lines = [mark, f"<summary>{title}</summary>", "", *body, "", "</details>"]
    else:
        body = [title, *body] if title else body  # MyST, too, takes it for words
        lines = [f"**{LABELS[name]}**", "", *_trim(_blocks(body, span, True))]
        lines = [f"> {line}".rstrip() for line in lines]
    return [indent + line if line else "" for line in lines]


def _trim(lines):
    return "\n".join(lines).strip("\n").split("\n")


def _prose(lines, span, quoted):
    """Lines between fences: citations and links rewritten, nothing of MyST left."""
    if not lines:
        return []
    replaced = SPAN.sub(lambda match: span(match, quoted=quoted), "\n".join(lines))
    bare = SPAN.sub(lambda m: "" if m["code"] or m["math"] else m[0], replaced)
    if left := LEFT.search(bare):
        raise ValueError(
            f"{left[0].strip()!r} is not plain Markdown and cannot be made so here: "
            "write note, warning or dropdown at the start of a line, {cite}`key` in "
            "the text, and a link to another page as [words](page.ipynb)"
        )
    return replaced.split("\n")


def _span(match, *, path, references, quoted):
    """What stands for a role, a link, a formula or code in the export."""
    if match["role"]:
        return _citation(match, references)
    if match["math"] and quoted:  # Jupyter would set the > of a new line as maths
        return re.sub(r"\s*\n\s*", " ", match[0])
    if match["target"] is None or ELSEWHERE.match(match["target"]):
        return match[0]
    return _words(match, path)


def _words(match, path):
    """A link to another page of the book in words: an export has no address for it."""
    target, words = match["target"].partition("#")[0], match["words"]
    if match["image"] or not target.endswith((".ipynb", ".md")):
        raise ValueError(
            f"{match[0]!r} names a file that an export does not have beside it: link "
            "to a page of the book or a full address, and draw images in a cell"
        )
    page = (path.parent / urllib.parse.unquote(target)).resolve()
    if not page.is_file():
        raise ValueError(f"{match[0]!r} links to a page that is not there")
    kind = "chapter" if page.suffix == ".ipynb" else "page"
    return f"{words} ({kind} {chapters.name(page)})".lstrip()


def bibliography():
    """The entries of book/references.bib, by key."""
    return parse_file(chapters.ROOT / "book" / "references.bib").entries


def _citation(match, references):
    """A citation as (Author year), each linked to its DOI."""
    if match["role"] != "cite":
        raise ValueError(f"the role {match[0]!r} is not {{cite}} or plain Markdown")
    keys = [key.strip() for key in match["keys"].split(",")]
    for key in keys:
        if key not in references:
            raise ValueError(
                f"{match[0]!r} cites {key!r}, which book/references.bib does not "
                "define: add the entry, or correct the key"
            )
    return f"({'; '.join(_cited(key, references[key]) for key in keys)})"


def _cited(key, entry):
    people = entry.persons.get("author") or entry.persons.get("editor")
    if not people:
        raise ValueError(f"{key!r} in book/references.bib has no author and no editor")
    names = [
        str(Text.from_latex(" ".join([*person.prelast_names, *person.last_names])))
        for person in people
    ]
    if len(names) > 2 or names[-1] == "others":
        names = [f"{names[0]} et al."]
    words = f"{' and '.join(names)} {entry.fields.get('year', 'n.d.')}"
    doi = urllib.parse.quote(entry.fields.get("doi", "").replace("\\_", "_"), "/:;")
    address = f"https://doi.org/{doi}" if doi else entry.fields.get("url")
    return f"[{words}]({address})" if address else words
