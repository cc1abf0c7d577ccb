"""Sentences for prompts that the knowledge file does not know, in English and Korean."""

from __future__ import annotations

OPENINGS = {
    "en": (
        "Thank you for asking about {topic}.",
        "Here is what usually matters for {topic}.",
        "In short, {topic} comes down to a few points.",
        "Good question about {topic}.",
    ),
    "ko": (
        "'{topic}'에 대해 문의해 주셔서 감사합니다.",
        "'{topic}' 관련하여 핵심만 안내해 드리겠습니다.",
        "'{topic}'에 대해 간단히 설명해 드리면 다음과 같습니다.",
        "'{topic}' 문의 내용을 확인했습니다.",
    ),
}
BODIES = {
    "en": (
        "Start from the current state, change one thing at a time and check the result before you go on.",
        "Most cases are settled within two business days, and you will get an e-mail when that happens.",
        "The settings page lists every option; the defaults suit most people.",
        "If the first attempt fails, wait a minute and try again before contacting support.",
        "Keep the order number at hand, because every later step refers to it.",
        "The main trade-off is between speed and cost, so decide first which one matters more to you.",
        "It helps to write down the numbers before and after, so that the effect can be seen.",
        "There is no extra charge for this, and it can be undone at any time during the first 30 days.",
        "A short test with a small sample shows quickly whether the approach holds.",
        "For larger accounts an administrator has to confirm the change once.",
    ),
    "ko": (
        "먼저 현재 상태를 확인하신 뒤 한 번에 하나씩 변경하고 결과를 점검해 주세요.",
        "대부분 영업일 기준 이틀 안에 처리되며 완료되면 이메일로 알려 드립니다.",
        "설정 페이지에서 모든 항목을 확인하실 수 있고 기본값으로도 충분합니다.",
        "처음에 실패하면 1분 정도 기다린 후 다시 시도해 주세요.",
        "이후 절차에 필요하니 주문 번호를 미리 준비해 주세요.",
        "속도와 비용 중 어느 쪽이 더 중요한지 먼저 정하시는 것이 좋습니다.",
        "변경 전후의 수치를 기록해 두시면 효과를 쉽게 비교할 수 있습니다.",
        "추가 비용은 없으며 처음 30일 동안은 언제든지 되돌릴 수 있습니다.",
        "작은 표본으로 먼저 시험해 보시면 방법이 맞는지 금방 알 수 있습니다.",
        "규모가 큰 계정은 관리자의 승인이 한 번 필요합니다.",
    ),
}
CLOSINGS = {
    "en": ("Let me know if you need more detail.", "I can go deeper into any of these points.", ""),
    "ko": ("더 궁금하신 점이 있으면 말씀해 주세요.", "필요하시면 더 자세히 안내해 드리겠습니다.", ""),
}
POINTS = {
    "en": ("What stands out: ", "Likely cause: ", "Risk: ", "Next step: "),
    "ko": ("주요 내용: ", "예상 원인: ", "주의할 점: ", "다음 단계: "),
}
TOOL_RESULT = {"en": "Here is what I found: {result}", "ko": "조회 결과입니다: {result}"}
TRANSLATED = {
    "en": "This is a translation of the text about {topic}. ",
    "ko": "다음은 '{topic}'에 관한 글을 옮긴 것입니다. ",
}
TOPIC = {"en": "your question", "ko": "문의하신 내용"}

CODE = {
    "python": (
        'def {name}(values: list[int]) -> list[int]:\n    """Return the values in order, without repeats."""\n'
        "    seen: set[int] = set()\n    result = []\n    for value in values:\n        if value not in seen:\n"
        "            seen.add(value)\n            result.append(value)\n    return result\n"
    ),
    "javascript": (
        "function {name}(values) {{\n  const seen = new Set();\n  return values.filter((value) => {{\n"
        "    if (seen.has(value)) return false;\n    seen.add(value);\n    return true;\n  }});\n}}\n"
    ),
    "sql": (
        "SELECT customer_id, COUNT(*) AS orders, SUM(amount) AS total\nFROM {name}\n"
        "WHERE created_at >= CURRENT_DATE - INTERVAL '30 days'\nGROUP BY customer_id\nORDER BY total DESC;\n"
    ),
    "bash": '#!/usr/bin/env bash\nset -euo pipefail\n\nfor {name} in "$@"; do\n  wc -l < "${name}"\ndone\n',
}
CODE_INTRO = {"en": "Here is a version that does it:", "ko": "다음과 같이 작성할 수 있습니다:"}
CODE_OUTRO = {
    "en": "It runs in linear time and keeps the original order.",
    "ko": "시간 복잡도는 선형이며 원래 순서를 유지합니다.",
}
