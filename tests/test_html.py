"""The built pages: rules over their HTML, and what a browser and axe say of them."""

import functools
import http.server
import posixpath
import re
import shutil
import threading
from typing import NamedTuple
from urllib.parse import quote, unquote, urlsplit

import pytest
from axe_playwright_python.base import AXE_SCRIPT
from bs4 import BeautifulSoup
from playwright.sync_api import sync_playwright

from tools import chapters, html

ADDRESSES = [
    path.relative_to(chapters.ROOT).with_suffix(".html").as_posix()
    for path in chapters.pages()
]
ALL_ADDRESSES = [*ADDRESSES, "search.html"]

# --- Rules over one parsed page; each returns what is wrong, in words


class Page(NamedTuple):
    """One page of the book.

    address: where it is below the root of the site, "book/setup.html"
    site: every file of the site, with the ids in it (none where it is no page)
    """

    address: str
    text: str
    soup: BeautifulSoup
    site: dict


def addresses(soup):
    """Every address that the page names, as written."""
    for attribute in ("href", "src", "action", "data"):
        for node in soup.find_all(attrs={attribute: True}):
            yield node[attribute]
    for node in soup.find_all(
        "meta", attrs={"http-equiv": re.compile("refresh", re.I)}
    ):
        yield node["content"].partition("url=")[2]


def broken_links(page):
    """Addresses in the book that lead to no file, or to no place in it."""
    found = []
    for address in addresses(page.soup):
        parts = urlsplit(address)
        if parts.scheme or parts.netloc:
            continue
        folder = posixpath.dirname(page.address)
        path = posixpath.normpath(posixpath.join(folder, unquote(parts.path)))
        path = path if parts.path else page.address
        if path not in page.site:
            found.append(f"{address} leads to no file")
        elif parts.fragment and unquote(parts.fragment) not in page.site[path]:
            found.append(f"{address}: {path} has no such id")
    return found


def insecure_links(page):
    """Links out of the book that are not https."""
    links = [
        (link["href"], urlsplit(link["href"])) for link in page.soup.select("a[href]")
    ]
    return [
        f"{address} is not https"
        for address, parts in links
        if (parts.scheme or parts.netloc) and parts.scheme not in ("https", "mailto")
    ]


def poor_alt_texts(page):
    """Images without a description, or with a file's name for one."""
    file_name = re.compile(r"\S\.(png|svg|jpe?g|gif|webp|pdf)\b|_build|_images", re.I)
    return [
        f"{image.get('src')} has the alt text {image.get('alt')!r}"
        for image in page.soup.select("main img")
        if not image.get("alt", "").strip() or file_name.search(image["alt"])
    ]


def foreign_resources(page):
    """What the page would load from another host."""
    loaded = page.soup.select("[src], [srcset], link[href], object[data]")
    named = [node.get(k) for node in loaded for k in ("src", "srcset", "href", "data")]
    styles = [node.get_text() for node in page.soup.find_all("style")]
    styles += [node["style"] for node in page.soup.find_all(style=True)]
    named += [url for style in styles for url in css_addresses(style)]
    return [f"loads {name}" for name in named if name and urlsplit(name).netloc]


def css_addresses(css):
    """Every address that a style sheet loads."""
    return re.findall(r"""(?:url\(|@import)\s*["']?([^"')\s;]+)""", css)


def own_path(page):
    """The place of the repository on the disk of whoever built the page."""
    root = chapters.ROOT
    places = "|".join(map(re.escape, {str(root), root.as_posix(), quote(str(root))}))
    # not as the end of a relative address, should the repository lie in /book
    named = re.search(rf"(?:file://|(?<![\w./-]))(?:{places})(?![\w-])", page.text)
    return [f"names {named[0]}"] if named else []


def title_and_language(page):
    """A page has one h1 and says its language."""
    found = [] if page.soup.select("html[lang]") else ["html has no lang"]
    count = len(page.soup.find_all("h1"))
    return found if count == 1 else [*found, f"{count} h1"]


def open_solutions(page):
    """Solutions that are not folded."""
    return [
        f"a solution is open: {part.get_text()[:40]!r}"
        for part in page.soup.select(".tag_solution :is(.cell_input, .cell_output)")
        if not part.find_parent("details") or part.find_parent("details", open=True)
    ]


def tracebacks(page):
    """Errors in outputs, except of cells that announce one."""
    return [
        f"an error is shown: {output.get_text().strip()[-60:]!r}"
        for output in page.soup.select(".cell:not(.tag_raises-exception) .cell_output")
        if output.select(".traceback") or "Traceback (most recent" in output.get_text()
    ]


def unread_formulas(page):
    """Formulas that were taken for text: a dollar sign outside of code."""
    found = []
    for words in page.soup.find_all(string=re.compile(r"\$")):
        unread = not words.find_parent(["pre", "code", "script", "style"])
        if unread and not words.find_parent(class_="math"):
            found.append(f"a dollar sign is left in {words.strip()[:60]!r}")
    return found


def notebook_links(page):
    """A chapter's title is followed by the link to its notebook."""
    if f"_sources/{page.address.removesuffix('.html')}.ipynb" not in page.site:
        return []
    link = page.soup.select_one("article h1 + .notebook-link > a[download]")
    name = page.address.removeprefix("book/").removesuffix(".html").replace("/", "-")
    if link and link["href"].endswith(f"/colab/{name}.ipynb"):
        return []
    return [f"the title is not followed by a link to colab/{name}.ipynb"]


RULES = [
    broken_links,
    insecure_links,
    poor_alt_texts,
    foreign_resources,
    own_path,
    title_and_language,
    open_solutions,
    tracebacks,
    unread_formulas,
    notebook_links,
]

SITE = {
    "book/a.html": {"here"},
    "book/b.html": {"there is"},
    "book/b.png": set(),
    "colab/a.ipynb": set(),
    "_sources/book/a.ipynb": set(),
}
SOUND = """
<html lang="en"><style>p { background: url(b.png) }</style><main><article>
<h1 id="here">A</h1>
<p class="notebook-link"><a href="../colab/a.ipynb" download>notebook</a></p>
<a href="#here">here</a> <a href="#">up</a> <a href="b.html?q=1#there%20is">there</a>
<a href="https://example.org/x#y">out</a> <a href="mailto:a@example.org">mail</a>
<img src="b.png" alt="Line chart, falling from 1.5 to 0.">
<div class="cell tag_solution"><details><div class="cell_input">x</div></details></div>
<div class="cell tag_raises-exception"><div class="cell_output">
Traceback (most recent call last)</div></div>
</article></main></html>
"""
BROKEN = [
    (broken_links, '"b.html?q=1#there%20is"', '"c.html"'),
    (broken_links, '"b.html?q=1#there%20is"', '"b.html#there"'),
    (broken_links, '"#here"', '"#nowhere"'),
    (broken_links, '"../colab/a.ipynb"', '"../colab/A.ipynb"'),
    (broken_links, 'src="b.png"', 'src="/b.png"'),
    (broken_links, "<main>", '<meta http-equiv="Refresh" content="0; url=c.html"/>'),
    (insecure_links, "https://example.org/x#y", "http://example.org"),
    (insecure_links, "https://example.org/x#y", "//example.org"),
    (insecure_links, "https://example.org/x#y", "javascript:alert(1)"),
    (poor_alt_texts, "Line chart, falling from 1.5 to 0.", " "),
    (poor_alt_texts, "Line chart, falling from 1.5 to 0.", "../_build/x"),
    (poor_alt_texts, "Line chart, falling from 1.5 to 0.", "chart.png"),
    (poor_alt_texts, 'alt="Line chart, falling from 1.5 to 0."', ""),
    (foreign_resources, 'src="b.png"', 'src="https://example.org/b.png"'),
    (foreign_resources, "<main>", '<script src="//example.org/b.js"></script><main>'),
    (foreign_resources, "<main>", '<link href="https://example.org/b.css"><main>'),
    (foreign_resources, "url(b.png)", "url('https://example.org/b.png')"),
    (foreign_resources, "p { background", '@import "https://example.org"; p { '),
    (own_path, "<main>", f"<main>{chapters.ROOT}/book"),
    (own_path, "https://example.org/x#y", f"file://{quote(str(chapters.ROOT))}"),
    (title_and_language, ' lang="en"', ""),
    (title_and_language, "<main>", "<main><h1>B</h1>"),
    (title_and_language, "h1", "h2"),
    (open_solutions, "details", "div"),
    (open_solutions, "<details>", "<details open>"),
    (tracebacks, " tag_raises-exception", ""),
    (unread_formulas, "</h1>", "</h1><p>With $x$ <code>$y</code></p>"),
    (notebook_links, " download", ""),
    (notebook_links, "</h1>", "</h1><p>first</p>"),
    (notebook_links, "colab/a.ipynb", "colab/b.ipynb"),
]


def parsed(text, address="book/a.html", site=None):
    return Page(address, text, BeautifulSoup(text, "html.parser"), site or SITE)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_rule_accepts_a_sound_page(rule):
    assert rule(parsed(SOUND)) == []


@pytest.mark.parametrize(("rule", "sound", "broken"), BROKEN)
def test_rule_refuses_a_broken_page(rule, sound, broken):
    assert sound in SOUND
    assert len(rule(parsed(SOUND.replace(sound, broken)))) == 1


@pytest.mark.parametrize(
    ("stock", "better"),
    [
        ("<tr><th></th><th>a</th>", "<tr><td></td><th>a</th>"),
        ('<th class="blank">&nbsp;</th>', '<td class="blank"></td>'),
        ('<th class="head"><p></p></th>', '<td class="head"></td>'),
        ("<thead><tr><th>a</th>", "<thead><tr><th>a</th>"),
    ],
)
def test_an_empty_head_of_a_table_becomes_a_plain_cell(stock, better):
    assert html.repaired(stock) == better


# --- The same rules over the built pages


@pytest.fixture(scope="module")
def built():
    """Every page of the site by its address."""
    if not (chapters.HTML / "index.html").is_file():
        pytest.fail(f"{chapters.HTML} holds no book: run `make book` first")
    files = [path for path in chapters.HTML.rglob("*") if path.is_file()]
    site = {path.relative_to(chapters.HTML).as_posix(): set() for path in files}
    pages = {}
    for address in site:
        if address.endswith(".html") and not address.startswith("_static/"):
            text = (chapters.HTML / address).read_text(encoding="utf-8")
            pages[address] = parsed(text, address, site)
            site[address] |= {n["id"] for n in pages[address].soup.select("[id]")}
    return pages


@pytest.mark.built
@pytest.mark.parametrize("address", ALL_ADDRESSES)
def test_page_was_built(built, address):
    assert address in built


@pytest.mark.built
@pytest.mark.parametrize("address", ALL_ADDRESSES)
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_built_page(built, address, rule):
    assert rule(built[address]) == []


@pytest.mark.built
def test_first_page_leads_into_the_book(built):
    assert broken_links(built["index.html"]) == []
    assert ADDRESSES[0] in addresses(built["index.html"].soup)


@pytest.mark.built
def test_style_sheets_load_nothing_from_another_host(built):
    sheets = [path for path in chapters.HTML.rglob("*.css")]
    named = [url for path in sheets for url in css_addresses(path.read_text("utf-8"))]
    assert sheets
    assert [url for url in named if urlsplit(url).netloc] == []


# --- What a browser and axe say

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # a page that asks another host is told that there is none
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
]
SIZES = {"desktop": (1280, 900), "phone": (390, 844)}
AXE = {
    "resultTypes": ["violations"],
    # experimental, thus off unless named; voice control depends on it
    "rules": {"label-content-name-mismatch": {"enabled": True}},
}
RUN_AXE = """([options, phone]) => {
  // most of axe's time goes to the contrast of every word of code, which is the same
  // at every width: once is enough
  if (phone)
    axe.configure({rules: [{id: "color-contrast", selector: "*:not(.highlight *)"}]});
  return axe.run(options).then(results => results.violations);
}"""
SETTLE = """async () => {
  await window.MathJax?.startup?.promise;
  await document.fonts.ready;
  // the theme lets a keyboard reach what scrolls 300 ms after the page changed
  if (document.querySelector(".math")) await new Promise(r => setTimeout(r, 400));
}"""
LOOK = """scheme => {
  const root = document.documentElement, found = [];
  if (root.dataset.theme !== scheme)
    found.push(`the page is ${root.dataset.theme}, asked for was ${scheme}`);
  if (root.scrollWidth > root.clientWidth)
    found.push(`the page is ${root.scrollWidth} px wide, not ${root.clientWidth}`);
  for (const formula of document.querySelectorAll(".math"))
    if (!formula.querySelector("mjx-container"))
      found.push(`a formula is not rendered: ${formula.textContent}`);
    else if (formula.querySelector('mjx-merror, mtext[mathcolor="red"]'))
      found.push(`a formula has an error: ${formula.textContent}`);
  return found;
}"""


@pytest.fixture(scope="module")
def browser():
    # for the module, not the session: while it runs, no other test can use asyncio
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None:
        pytest.skip(f"no browser: none of {', '.join(PROGRAMS)} is on the PATH")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=ARGUMENTS)
        yield browser
        browser.close()


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def serve():
    """Serve a folder on this machine; return its address."""
    servers = []

    def start(folder):
        handler = functools.partial(Quiet, directory=str(folder))
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        servers.append((server, thread))
        return f"http://127.0.0.1:{server.server_port}/"

    yield start
    for server, thread in servers:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(scope="module")
def home(built, serve):
    """The address of the served book."""
    return serve(chapters.HTML)


def listen(page, home):
    """The list that fills with what goes wrong while the page is open."""
    found = []

    def log(message):
        if message.type == "error":
            found.append(f"console: {message.text} {message.location['url']}")

    def request(request):
        if not request.url.startswith((home, "data:", "blob:")):
            found.append(f"asks another host: {request.url}")

    def response(response):
        if response.status >= 400:
            found.append(f"status {response.status}: {response.url}")

    page.on("console", log)
    page.on("request", request)
    page.on("response", response)
    page.on("requestfailed", lambda r: found.append(f"failed: {r.url} {r.failure}"))
    page.on("pageerror", lambda error: found.append(f"script: {error}"))
    return found


def complaints(browser, home, address, size="desktop", scheme="light"):
    """All that browser and axe have to say against a page, in words."""
    width, height = SIZES[size]
    viewport = {"width": width, "height": height}
    with browser.new_context(viewport=viewport, color_scheme=scheme) as context:
        page = context.new_page()
        heard = listen(page, home)
        page.goto(home + address)
        page.evaluate(SETTLE)
        found = [*heard, *page.evaluate(LOOK, scheme)]
        # last, and not listened to: axe asks for style sheets in wrong places
        page.evaluate(AXE_SCRIPT)
        for violation in page.evaluate(RUN_AXE, [AXE, size == "phone"]):
            for node in violation["nodes"]:
                found.append(f"axe {violation['id']}: {node['html'][:150]}")
    return found


FLAWLESS = """<!doctype html>
<html lang="en" data-theme="light"><head><title>A</title><link rel="icon" href="data:,">
</head><body><main><h1>A</h1><p>text</p></main></body></html>
"""


@pytest.mark.parametrize(
    ("sound", "broken", "word"),
    [
        ("text", "text", None),
        ("text", "<script>console.error('x')</script>", "console: x"),
        ("text", "<script>throw Error('x')</script>", "script: x"),
        ("text", "<img alt='x' src='https://a.invalid/x.png'>", "asks another host"),
        ("text", "<img alt='x' src='x.png'>", "status 404"),
        ("text", "<img alt='x' src='https://a.invalid/x.png'>", "failed: "),
        ("text", "<span class='math'>\\(x\\)</span>", "is not rendered"),
        (
            "text",
            "<span class='math'><mjx-container><mjx-merror>x</mjx-merror>",
            "has an error",
        ),
        ("text", "<div style='width: 2000px'>x</div>", "px wide, not 1280"),
        ("text", "<img src='data:,'>", "image-alt"),
        ("text", "<button aria-label='Go'>Stop</button>", "label-content-name"),
        ("text", "<table><tr><th></th></tr></table>", "empty-table-header"),
        (' data-theme="light"', "", "asked for was light"),
    ],
)
def test_browser_refuses_a_broken_page(tmp_path, browser, serve, sound, broken, word):
    (tmp_path / "a.html").write_text(FLAWLESS.replace(sound, broken), encoding="utf-8")
    found = complaints(browser, serve(tmp_path), "a.html")
    assert found == [] if word is None else any(word in line for line in found)


@pytest.mark.built
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("address", ALL_ADDRESSES)
def test_page_in_a_browser(browser, home, address, size, scheme):
    assert complaints(browser, home, address, size, scheme) == []


@pytest.mark.built
def test_a_solution_opens(browser, home, built):
    folded = [a for a in ADDRESSES if built[a].soup.select(".tag_solution details")]
    if not folded:
        pytest.skip("no page has a solution")
    with browser.new_page() as page:
        page.goto(home + folded[0])
        summary = page.locator(".tag_solution summary").first
        code = page.locator(".tag_solution pre").first
        assert (summary.inner_text().strip(), code.is_visible()) == (
            "Show solution",
            False,
        )
        summary.click()
        assert (summary.inner_text().strip(), code.is_visible()) == (
            "Hide solution",
            True,
        )


@pytest.mark.built
def test_search_finds_a_chapter_by_a_word_of_its_title(browser, home, built):
    address = ADDRESSES[1]
    title = built[address].soup.h1.get_text()
    word = max(re.findall(r"\w+", title), key=len)
    with browser.new_page() as page:
        page.goto(home + ADDRESSES[0])
        page.locator("header .search-button-field").click()
        page.keyboard.type(word)
        page.keyboard.press("Enter")
        page.locator(f'#search-results a[href*="{address}"]').first.wait_for()
