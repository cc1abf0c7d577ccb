"""What people ask an IT help desk, in their words, and what it answers; see write_second_workload.py."""

# ruff: noqa: E501
from __future__ import annotations

Intent = tuple[str, str, tuple[str, ...], str, str]
"""Feature, language, wordings, answer, and what a small model says instead where it gets it wrong."""

HANDBOOK = """You are the IT help desk of Haneul Logistics (하늘물류). Answer in the language of the question, in two or
three sentences, only from this handbook. Tell apart what looks alike: Windows and macOS, iPhone and Android, the office
and home, employees and contractors, laptops and desktops. Never ask for a password or a one-time code. If the handbook
does not say it, say so and give extension 4357.

1. Accounts. Passwords have at least 14 characters and expire after 180 days; contractors' after 90 days. A password may
not be one of the last 8. After 5 wrong attempts an account locks for 30 minutes; the desk can unlock it at once after a
call back to the number on file. Reset at https://id.haneul.example with the authenticator app. New starters get their
account on the first day at 09:00; a leaver's account closes at 18:00 on the last day, and mail is kept for 60 days.
Display names change through HR, not here. Shared mailboxes need an owner and a deputy, and are reviewed every June.
2. Second factor. The authenticator app is required outside the office. A new phone is enrolled at the desk or, with the
old phone at hand, under Security > Devices. A lost phone is reported within 4 hours; the desk removes it and gives a
temporary code that holds 24 hours. Hardware keys are for administrators and finance. SMS codes ended in March 2026.
3. VPN. Windows uses GlobalGate 6.2, macOS uses GlobalGate 6.1, Linux the openconnect client. Android and iPhone use the
app "GlobalGate Mobile". The portal is vpn.haneul.example. Sessions end after 12 hours, for contractors after 8 hours.
Error 809 on Windows means that UDP 4500 is blocked: use another network or a phone's hotspot. Error 51 on macOS means
that the service has stopped: restart GlobalGate in Activity Monitor. Split tunnelling is off. From China, Iran, Russia
and North Korea the VPN refuses connections; travellers to China ask 10 working days ahead for the travel profile.
4. Mail and calendar. A mailbox holds 50 GB, a shared one 25 GB. Attachments may be 25 MB; above that, share a link from
Drive. Deleted mail is kept for 30 days and can be restored by yourself; up to 90 days by the desk; after that it is
gone. An automatic reply is set under Settings > Out of office, and has an inner and an outer text. External mail has a
yellow bar. Phishing is reported with the fish button, never forwarded. Recalled messages work only inside the company.
Room calendars open 60 days ahead; a room that nobody enters within 15 minutes is free again.
5. Printers. Printing is by badge at any printer; a job waits 24 hours. Windows installs "Haneul-Print" from the Software
Centre, macOS from Self Service. Colour needs a cost centre. Paper jams: open flap B before flap A. Toner is ordered by
the printer itself; nobody needs to call. Plotters on floor 7 take PDF/A only. Scans go to one's own mailbox only.
6. Wi-Fi. "Haneul" is for company laptops and uses a certificate; "Haneul-Guest" gives a voucher for 1 day, at reception,
or 5 days with a host's approval. Private phones use "Haneul-BYOD" with the account. Meeting room screens use "Haneul-AV".
Warehouse scanners use "Haneul-RF", which runs on 2.4 GHz only; laptops are never connected to it.
7. Laptops. Replaced after 4 years, desktops after 5 years, phones after 3 years. Windows laptops are ThinkPad T14; the
macOS one is MacBook Air 15 and needs a director's approval. A broken screen is repaired within 3 working days; the desk
lends a laptop for up to 10 working days. A stolen device is reported to the police and the desk within 24 hours.
Disks are encrypted: the BitLocker key (Windows) is at id.haneul.example > Devices; the FileVault key (macOS) is given
by the desk only, after a call back. USB sticks are read-only; an exception holds 30 days and needs a manager.
8. Software. Office, Slack, Zoom and Acrobat Reader are free to install. Acrobat Pro costs the cost centre 18,000 won a
month, Visio 9,000 won, Photoshop 32,000 won. Requests are granted within 2 working days; server software within 10.
Private licences may not be used. Python and Node are installed from the Software Centre and need no administrator.
Administrator rights are given for 8 hours at a time and are logged. Browser extensions need a security review.
9. Files. Drive keeps 100 versions or 180 days. Team folders have 1 TB, personal ones 100 GB. Deleted files are kept for
30 days in the bin and 60 more days by the desk. Links to outsiders expire after 14 days. Nightly backups of servers run at
01:30 and are kept for 35 days, monthly ones for 13 months. Restoring a server takes up to 8 hours.
10. ERP and warehouse. The ERP closes for maintenance on Sunday from 02:00 to 06:00, the warehouse system on Saturday from
22:00 to 23:30. An ERP session ends after 45 minutes. New ERP roles need the process owner; they hold a year. Scanners are
charged in the cradle with the green light; a scanner that is frozen restarts with trigger plus power for 12 seconds.
11. The desk. Monday to Friday 08:00 to 19:00, Saturday 09:00 to 13:00, extension 4357. Priority 1 (a site cannot work) is
answered in 15 minutes, priority 2 (a team) in 1 hour, priority 3 (one person) in 4 hours, priority 4 (a wish) in 3 days.
12. Phones and calls. Company phones are iPhone 16 or Galaxy S26 and are managed; the private area stays private. Data
abroad is 5 GB a month in Asia and 2 GB elsewhere; more is bought in the app "Haneul Roam". Desk phones ended in 2025; calls
go through Zoom Phone. A voicemail is kept for 60 days. Forwarding to outside numbers needs a manager and holds 14 days.
13. Home. One monitor and one headset may be taken home and are noted in the asset list; a second monitor, a chair and a
printer may not. The company does not pay for internet at home. Support at home is by remote session only, which the
employee accepts each time; nobody comes. Screens lock after 5 minutes, in the warehouse after 15 minutes.
14. Moving and leaving. A move of up to 5 desks is asked for 3 working days ahead, of more 15 working days ahead. Leavers
hand in laptop, phone, badge and hardware key on the last day; what is missing is charged at its value in the books.
"""

SYSTEMS = {
    "handbook": HANDBOOK,
    "classify": "Classify the log line. Answer with JSON: category (network, disk, auth, app or ok) and urgent.",
}

ASKED: tuple[Intent, ...] = (
    # English, of the handbook
    ("support", "en", ("How long can my password be used?", "When does my password expire?", "Password expiry for employees?", "After how many days must I change my password?"), "An employee's password expires after 180 days.", ""),
    ("support", "en", ("When does a contractor's password expire?", "Password expiry for contractors?", "I'm a contractor, after how many days must I change my password?"), "A contractor's password expires after 90 days.", ""),
    ("support", "en", ("My account is locked, what now?", "I typed my password wrong five times and I'm locked out", "How do I get my account unlocked?", "locked out of my account"), "After 5 wrong attempts an account locks for 30 minutes. The desk unlocks it at once after a call back to the number on file.", ""),
    ("support", "en", ("Which VPN client do I install on Windows?", "VPN version for Windows?", "What VPN software does my Windows laptop need?"), "On Windows install GlobalGate 6.2.", ""),
    ("support", "en", ("Which VPN client do I install on macOS?", "VPN version for macOS?", "What VPN software does my Mac need?"), "On macOS install GlobalGate 6.1.", ""),
    ("support", "en", ("What does VPN error 809 mean?", "I get error 809 from the VPN", "VPN fails with 809, help", "GlobalGate says 809"), "Error 809 on Windows means that UDP 4500 is blocked. Use another network or a phone's hotspot.", ""),
    ("support", "en", ("What does VPN error 51 mean?", "I get error 51 from the VPN", "VPN fails with 51, help"), "Error 51 on macOS means that the service has stopped. Restart GlobalGate in Activity Monitor.", ""),
    ("support", "en", ("How large may an attachment be?", "What's the attachment size limit?", "Maximum size of a mail attachment?", "my attachment is too big, what is the limit?"), "Attachments may be 25 MB. Above that, share a link from Drive.", ""),
    ("support", "en", ("How large is my mailbox?", "What's the mailbox size limit?", "Maximum size of my mailbox?"), "Your mailbox holds 50 GB.", ""),
    ("support", "en", ("How large is a shared mailbox?", "What's the size limit of a shared mailbox?", "Maximum size of a shared mailbox?"), "A shared mailbox holds 25 GB.", ""),
    ("support", "en", ("I deleted an email 20 days ago, can I get it back?", "Restore a mail deleted 20 days ago", "A message I removed 20 days ago, how do I recover it?"), "Deleted mail is kept for 30 days; you can restore it yourself.", ""),
    ("support", "en", ("I deleted an email 80 days ago, can I get it back?", "Restore a mail deleted 80 days ago", "A message I removed 80 days ago, how do I recover it?"), "After 30 days only the desk can restore it, up to 90 days; call 4357.", ""),
    ("support", "en", ("Which Wi-Fi do visitors use?", "How does a guest get on the Wi-Fi?", "Wi-Fi access for a visitor?", "My visitor needs internet"), "Visitors use Haneul-Guest. Reception gives a voucher for 1 day; with a host's approval for 5 days.", ""),
    ("support", "en", ("Which Wi-Fi does my private phone use?", "How do I get my own phone on the Wi-Fi?", "Wi-Fi for personal phones?"), "Private phones use Haneul-BYOD with your account.", ""),
    ("support", "en", ("Where do I find my BitLocker key?", "I need the BitLocker recovery key", "My Windows laptop asks for a BitLocker key"), "The BitLocker key is at id.haneul.example > Devices.", ""),
    ("support", "en", ("Where do I find my FileVault key?", "I need the FileVault recovery key", "My MacBook asks for a FileVault key"), "The desk gives the FileVault key, after a call back; call 4357.", ""),
    ("support", "en", ("Can I install Slack?", "Am I allowed to install Slack?", "Is Slack free to install?"), "Yes. Slack is free to install.", ""),
    ("support", "en", ("How do I set an out of office reply?", "Turn on my automatic reply", "Where do I set the vacation message?", "switch on out of office"), "Set it under Settings > Out of office; there is an inner and an outer text.", ""),
    ("support", "en", ("How do I turn off my out of office reply?", "Turn off my automatic reply", "switch off out of office"), "Under Settings > Out of office, switch it off there for both texts.", ""),
    # Korean, of the handbook
    ("support", "ko", ("프린터는 어떻게 설치하나요?", "윈도우에서 프린터 설치 방법 알려주세요", "윈도우 노트북에 프린터 어떻게 깔아요?", "Windows 프린터 설치요"), "Windows에서는 Software Centre에서 Haneul-Print를 설치하세요.", ""),
    ("support", "ko", ("맥에서 프린터는 어떻게 설치하나요?", "macOS에서 프린터 설치 방법 알려주세요", "맥북에 프린터 어떻게 깔아요?"), "macOS에서는 Self Service에서 Haneul-Print를 설치하세요.", ""),
    ("support", "ko", ("휴대폰을 잃어버렸어요. 인증은 어떻게 하죠?", "폰 분실했는데 2차 인증 어떻게 해요?", "휴대폰 분실 신고하려고요", "핸드폰을 잃어버렸습니다"), "4시간 안에 신고하세요. 헬프데스크가 기기를 지우고 24시간 쓸 수 있는 임시 코드를 드립니다.", ""),
    ("support", "ko", ("휴대폰을 새로 샀어요. 인증 앱은 어떻게 옮기죠?", "새 폰에 인증 앱 등록 방법", "새 휴대폰 인증 등록하려고요"), "예전 휴대폰이 있으면 보안 > 기기에서, 없으면 헬프데스크에서 등록하세요.", ""),
    ("support", "ko", ("노트북은 몇 년마다 바꿔주나요?", "노트북 교체 주기가 어떻게 돼요?", "노트북 언제 교체돼요?", "제 노트북 교체 주기 알려주세요"), "노트북은 4년마다 교체합니다.", ""),
    ("support", "ko", ("데스크톱은 몇 년마다 바꿔주나요?", "데스크톱 교체 주기가 어떻게 돼요?", "데스크톱 언제 교체돼요?"), "데스크톱은 5년마다 교체합니다.", ""),
    ("support", "ko", ("업무용 휴대폰은 몇 년마다 바꿔주나요?", "업무용 휴대폰 교체 주기가 어떻게 돼요?", "업무폰 언제 교체돼요?"), "업무용 휴대폰은 3년마다 교체합니다.", ""),
    ("support", "ko", ("포토샵 쓰려면 얼마예요?", "포토샵 라이선스 비용 알려주세요", "Photoshop 한 달 비용이 얼마죠?"), "Photoshop은 비용 센터에서 월 32,000원이 나갑니다.", ""),
    ("support", "ko", ("비지오 쓰려면 얼마예요?", "비지오 라이선스 비용 알려주세요", "Visio 한 달 비용이 얼마죠?"), "Visio는 비용 센터에서 월 9,000원이 나갑니다.", ""),
    ("support", "ko", ("USB에 파일을 저장할 수 있나요?", "USB 메모리에 쓰기가 안 돼요", "USB로 파일 복사하고 싶어요", "유에스비 쓰기 권한 받을 수 있나요?"), "USB는 읽기만 됩니다. 예외는 관리자 승인으로 30일 동안 가능합니다.", ""),
    ("support", "ko", ("ERP 점검 시간이 언제예요?", "ERP는 언제 점검하나요?", "ERP가 언제 안 되죠?", "이알피 점검 시간 알려주세요"), "ERP 점검은 일요일 02:00부터 06:00까지입니다.", ""),
    ("support", "ko", ("창고 시스템 점검 시간이 언제예요?", "창고 시스템은 언제 점검하나요?", "창고 시스템이 언제 안 되죠?"), "창고 시스템 점검은 토요일 22:00부터 23:30까지입니다.", ""),
    ("support", "ko", ("스캐너가 멈췄어요", "스캐너 화면이 안 움직여요", "바코드 스캐너가 먹통이에요", "스캐너 재시작 어떻게 해요?"), "방아쇠와 전원을 함께 12초 누르면 다시 시작합니다.", ""),
    ("support", "ko", ("헬프데스크 토요일에도 하나요?", "토요일 헬프데스크 운영 시간이요", "토요일에 전화해도 되나요?"), "토요일은 09:00부터 13:00까지, 내선 4357입니다.", ""),
    ("support", "ko", ("헬프데스크 평일 운영 시간이 어떻게 돼요?", "평일에 몇 시까지 전화해도 되나요?", "평일 헬프데스크 운영 시간이요"), "평일은 08:00부터 19:00까지, 내선 4357입니다.", ""),
    ("support", "ko", ("피싱 메일을 받았어요", "수상한 메일이 왔는데 어떻게 신고하죠?", "피싱 의심 메일 신고 방법", "이상한 메일 받으면 어떻게 해요?"), "물고기 버튼으로 신고하고, 다른 사람에게 전달하지 마세요.", ""),
    # Hard ones, through the Router
    ("analysis", "en", ("A server backup failed on the 3rd; today is the 10th of the next month. Which restore points are left?", "Backup of the 3rd failed and it is the 10th of the following month: what can we still restore?", "We need data of last month's 3rd, whose nightly backup failed, and it is the 10th. Options?"), "Nightly points of the last 35 days remain: from the 5th or 6th of last month on. The 2nd is already gone, so the latest state before the 3rd is the monthly backup.", "The nightly backup of the 2nd is still there; restore it."),
    ("analysis", "en", ("Our certificate rotates every 397 days from 1 March 2026; when are the next two dates?", "Cert issued 1 March 2026, renewed every 397 days: the next two renewals?", "Compute the next two renewals of a certificate of 1 March 2026 with 397 days each"), "2 April 2027 and 3 May 2028.", "1 April 2027 and 2 May 2028."),
    ("analysis", "ko", ("우선순위 2 장애가 금요일 18:40에 접수되면 답변 기한은 언제까지인가요?", "금요일 18:40 접수한 2순위 건의 응답 기한을 계산해 주세요", "P2를 금요일 저녁 6시 40분에 접수했어요. 언제까지 답이 와야 하죠?"), "평일 운영은 19:00에 끝나므로 20분이 지나고, 나머지 40분은 토요일 09:00에 이어져 토요일 09:40까지입니다.", "금요일 19:40까지입니다."),
    ("analysis", "ko", ("비밀번호를 3월 1일에 바꾼 협력사 직원과 정직원의 만료일을 비교해 주세요", "3월 1일에 비밀번호를 바꿨다면 정직원과 협력사의 만료일은 각각 언제죠?", "3월 1일 변경 기준으로 협력사와 정직원 비밀번호 만료일 계산 부탁해요"), "협력사는 90일 뒤인 5월 30일, 정직원은 180일 뒤인 8월 28일입니다.", "협력사는 6월 1일, 정직원은 9월 1일입니다."),
    ("coding", "en", ("Write a PowerShell line that lists services that are stopped", "PowerShell: show all stopped services", "How do I list stopped services in PowerShell?"), "Get-Service | Where-Object Status -eq 'Stopped'", ""),
    ("coding", "en", ("Write a PowerShell line that lists services that are running", "PowerShell: show all running services", "How do I list running services in PowerShell?"), "Get-Service | Where-Object Status -eq 'Running'", ""),
    ("coding", "ko", ("30일 넘은 로그 파일을 지우는 리눅스 명령 알려줘", "리눅스에서 30일 지난 로그 삭제하는 명령어?", "find로 30일보다 오래된 .log 지우려면?"), "find /var/log -name '*.log' -mtime +30 -delete", ""),
    ("coding", "ko", ("7일 넘은 로그 파일을 지우는 리눅스 명령 알려줘", "리눅스에서 7일 지난 로그 삭제하는 명령어?", "find로 7일보다 오래된 .log 지우려면?"), "find /var/log -name '*.log' -mtime +7 -delete", ""),
)  # fmt: skip

LOGS: tuple[Intent, ...] = (
    ("logs", "en", ("eth# link down on switch core-2", "gateway 10.0.#.1 unreachable", "packet loss on uplink #"), '{"category": "network", "urgent": true}', ""),
    ("logs", "en", ("volume /data at 9# percent", "SMART warning on disk sd# of nas-1", "write failed: no space left, inode #"), '{"category": "disk", "urgent": true}', ""),
    ("logs", "en", ("login failed for user w# from vpn", "token of w# has expired", "account w# locked after 5 attempts"), '{"category": "auth", "urgent": false}', ""),
    ("logs", "ko", ("주문 서비스 예외 발생 코드 #", "ERP 작업 # 실패: 시간 초과", "창고 API 응답 없음 요청 #"), '{"category": "app", "urgent": true}', ""),
    ("logs", "ko", ("정기 백업 # 완료", "상태 점검 # 정상", "서비스 # 재시작 완료"), '{"category": "ok", "urgent": false}', ""),
)  # fmt: skip
