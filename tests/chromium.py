"""A browser for the tests of pages: Debian's chromium without a screen. Where there is none, the test is skipped."""

import json
import shutil
import subprocess

import pytest

# Notes what the page complains of, before any script of its own runs.
WATCH = """<script>
const complaints = [];
window.onerror = (...what) => complaints.push(what.join(' '));
window.onunhandledrejection = (event) => complaints.push(String(event.reason));
for (const level of ['error', 'warn']) console[level] = (...what) => complaints.push(level + ': ' + what.join(' '));
document.addEventListener('securitypolicyviolation', (event) => complaints.push('asks for ' + event.blockedURI));
</script>"""
# Runs the test's words once the page is drawn, and leaves their answer as the page's text.
ASK = """<script>
(async () => {
  let answer;
  try { await drawn; answer = await (async () => { WORDS })(); } catch (error) { complaints.push(error.stack); }
  document.body.textContent = JSON.stringify({ answer, complaints });
})();
</script>"""


def browser() -> str:
    """Return the program."""
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    if found is None:
        pytest.skip("no chromium on this machine: apt-get install chromium")
    return found


def opened(url: str, profile, *flags: str) -> str:
    """Return the page's document once its scripts have come to rest."""
    fixed = ("--headless=new", "--no-sandbox", "--disable-gpu", "--dump-dom", "--virtual-time-budget=20000")
    command = [browser(), *fixed, *flags, f"--user-data-dir={profile}", url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    return done.stdout


def body(document: str):
    """Return the JSON that a page has left as its text."""
    text = document.partition("<body")[2].partition(">")[2].partition("</body>")[0]
    return json.loads(text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))


def asked(page, words: str, tmp_path, *flags: str):
    """Return what `words`, the body of a JavaScript function, answer in a page of ours that is drawn. The page must
    complain of nothing."""
    text = page.read_text()
    assert text.rstrip().endswith("</body>\n</html>")
    text = text.replace("<head>", f"<head>{WATCH}", 1).rstrip().removesuffix("</body>\n</html>")
    copy = tmp_path / "asked.html"
    copy.write_text(f"{text}{ASK.replace('WORDS', words)}</body></html>")
    found = body(opened(copy.as_uri(), tmp_path / "profile", *flags))
    assert found["complaints"] == [], found
    return found["answer"]
