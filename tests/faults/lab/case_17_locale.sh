#!/bin/bash
# Windows (cp1252) and locales that are not UTF-8: files are read and written in the locale's encoding (read_text(), fdopen(.., "w") without
# encoding=). The study or the sweep has been trained when its report fails. langextract#166, coveragepy#124, pytest-html#336, villoro/html-reports#11.
PY=${PY:-python}; cd "${SEQCELLS:-$PWD}"; D=$(mktemp -d); rc=0
localedef -i en_US -f CP1252 $D/en_US.CP1252 2>/dev/null
report='from experiments.lab.pages import Page, Table; from pathlib import Path; from PIL import Image; import sys; o = Path(sys.argv[1]); Image.new("RGB", (8, 8)).save(o / "p.png", dpi=(100, 100))
t = Table("t", "c", ["claim", "verdict"], [["x", "holds"]], 2)
Page(title="t", lead="l", picture=o / "p.png", headlines=["h"], tables=[t], provenance={}, footer="f", findings=[], alt="a").write(o); print("page written")'
for e in "LC_ALL=C PYTHONCOERCECLOCALE=0 PYTHONUTF8=0" "LOCPATH=$D LC_ALL=en_US.CP1252 PYTHONUTF8=0"; do
  env $e $PY -c "import locale; print(locale.getpreferredencoding())"; env $e $PY -c "$report" $D 2>&1 | tail -1; grep -q . $D/report.html 2>/dev/null || rc=1; [ ${PIPESTATUS[0]} = 0 ] || rc=1; rm -f $D/report.html; done
exit $rc
