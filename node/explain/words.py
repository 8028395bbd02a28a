"""What the story of a study says, in one place for each language.

A sentence is in parts; a part whose placeholder has no value is left out. Reasons are written down in English where
they arise; the other languages know them by pattern, and leave as it is what they do not know.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["WORDS", "Words"]

Parts = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Words:
    """The words of one language; names of stages, states and kinds are those of the rows."""

    title: str
    columns: tuple[str, str, str]
    stages: Mapping[str, str]
    kinds: Mapping[str, str]
    statuses: Mapping[str, str]
    signals: Mapping[str, str]
    proofs: Mapping[str, str]
    sentences: Mapping[str, Parts]
    clause: str
    reasons: tuple[tuple[re.Pattern[str], str], ...] = ()


def _reasons(pairs: Mapping[str, str]) -> tuple[tuple[re.Pattern[str], str], ...]:
    return tuple((re.compile(pattern, re.DOTALL), sentence) for pattern, sentence in pairs.items())


EN = Words(
    title="Study",
    columns=("time", "stage", "what happened"),
    stages={},
    kinds={},
    statuses={},
    signals={
        "quiet": "no image came for the quiet time",
        "release": "the sender released its Association",
        "count": "all images that the sender holds are here",
        "forced": "a person called it whole",
        "recovered": "the index was rebuilt from the files",
    },
    proofs={
        "answer": "its answer says so",
        "commitment": "it has committed it",
        "find": "a query finds it there",
    },
    sentences={
        "images_came": ("{count} images of series {series} came from {ae} in {seconds} s",),
        "quarantined": ("another object with SOP Instance UID {uid} was put in quarantine: {reason}",),
        "discarded": ("a person discarded the study: its images stay and are not read",),
        "let_go": ("a person let the study go: nothing holds it from being read",),
        "open": (
            "generation {generation} is not whole yet, its last image came at this time",
            "; its sender holds {expected} images",
        ),
        "whole": ("generation {generation} is whole with {count} images: {signal}", " ({basis})"),
        "waits": ("waits until {until} UTC: {reason}",),
        "rule_took": ("rule '{rule}' took it: {reason}",),
        "rule_left": ("rule '{rule}' did not take it: {reason}",),
        "recovered": ("generation {generation}: {reason}",),
        "held": ("generation {generation} is not read: {reason}", "; wetread study release lets it go"),
        "unread": ("no algorithm ran on generation {generation}: {reason}",),
        "order_came": ("an order ({control}) came",),
        "order_urgent": ("an order ({control}) made the reading more urgent: {handler}",),
        "order_used": ("an order ({control}) stands in the result of {handler}",),
        "order_resent": (
            "an order ({control}) came after the result of {handler} was made: its message was made again with it",
        ),
        "order_waits": ("an order ({control}) came; it was not used so far",),
        "order_unfit": ("an order ({control}) came; it was not used, its issuer or its numbers did not fit",),
        "order_other_patient": ("an order ({control}) came; it names another Patient ID, so it was not used",),
        "order_cancelled": ("an order was cancelled ({control}); the study is read all the same",),
        "order_late": (
            "an order ({control}) came after the results were made: they are as they were, and nothing was sent again",
        ),
        "merged": ("the hospital merged this Patient ID into {stays}; the images and their results keep the old one",),
        "answered": ("{handler} answered '{status}' after {seconds} s", ": {reason}"),
        "reported": ("{handler} was reported: {findings}",),
        "reported_nothing": ("{handler} was reported: no findings stated",),
        "no_result": ("{handler} has no result: {reason}",),
        "sent_again": ("a person sent {what} for {destination} again, number {rounds}",),
        "taken": ("{destination} took {what}", " at attempt {attempts}", " with {answer}"),
        "verified": ("{destination} has {what} for good", ": {how}"),
        "unsure": ("{destination} is asked whether it keeps {what}, so far {checks} times", ": {note}"),
        "will_be_resent": ("{what} will be sent to {destination} once more", ": {note}"),
        "unverifiable": ("{what} was accepted by {destination}", "; {note}"),
        "dead_letter": ("{what} for {destination} is a dead letter: {error}",),
        "dropped": ("a person dropped {what} for {destination}: {note}", "; it was a dead letter: {error}"),
        "pending": ("{what} waits for {destination}, {attempts} attempts so far", ": {error}"),
        "being_removed": ("{images} images, with {results} results of them, are being removed: {reason}",),
        "removed": ("{images} images, with {results} results of them, were removed: {reason}",),
    },
    clause="; ",
)

ZH = Words(
    title="检查",
    columns=("时间", "环节", "经过"),
    stages={
        "receive": "接收",
        "complete": "收齐",
        "route": "分派",
        "order": "医嘱",
        "infer": "分析",
        "report": "报告",
        "deliver": "递送",
        "store": "存储",
    },
    kinds={
        "measurement_sr": "测量报告",
        "text_sr": "文字报告",
        "heat_map": "热图",
        "segmentation": "分割",
        "study_sr": "检查级测量报告",
        "heat_map_frames": "多帧热图",
        "key_objects": "关键图像",
        "presentation_state": "显示状态",
        "parametric_map": "参数图",
        "pdf": "PDF 报告",
        "oru": "ORU 消息",
        "json": "JSON 结果",
        "fhir": "FHIR 结果",
    },
    statuses={"findings": "有所见", "no_findings": "无所见", "not_evaluable": "无法评估", "failed": "失败"},
    signals={
        "quiet": "静默时间内没有新图像",
        "release": "发送方已释放连接",
        "count": "发送方持有的图像已全部到达",
        "forced": "由人员确认收齐",
        "recovered": "索引由文件重建",
    },
    proofs={"answer": "其应答即为证明", "commitment": "已作存储承诺", "find": "查询可见"},
    sentences={
        "images_came": ("来自 {ae} 的序列 {series} 共 {count} 幅图像，用时 {seconds} 秒",),
        "quarantined": ("另一个 SOP Instance UID 为 {uid} 的对象已隔离：{reason}",),
        "discarded": ("人员弃置该检查：图像保留，不予分析",),
        "let_go": ("人员放行该检查：不再被扣留",),
        "open": ("第 {generation} 代尚未收齐，最后一幅图像于此时到达", "；发送方持有 {expected} 幅图像"),
        "whole": ("第 {generation} 代已收齐，共 {count} 幅图像：{signal}", "（{basis}）"),
        "waits": ("等待至 {until} UTC：{reason}",),
        "rule_took": ("规则“{rule}”接受：{reason}",),
        "rule_left": ("规则“{rule}”不接受：{reason}",),
        "recovered": ("第 {generation} 代：{reason}",),
        "held": ("第 {generation} 代不予分析：{reason}", "；可用 wetread study release 放行"),
        "unread": ("第 {generation} 代没有算法运行：{reason}",),
        "order_came": ("收到医嘱（{control}）",),
        "order_urgent": ("医嘱（{control}）提高了分析的优先级：{handler}",),
        "order_used": ("医嘱（{control}）已写入 {handler} 的结果",),
        "order_resent": ("医嘱（{control}）在 {handler} 的结果生成之后到达：已据此重新生成消息",),
        "order_waits": ("收到医嘱（{control}）；目前尚未使用",),
        "order_unfit": ("收到医嘱（{control}）；签发机构或编号不符，未使用",),
        "order_other_patient": ("收到医嘱（{control}）；其患者编号不同，未使用",),
        "order_cancelled": ("医嘱已取消（{control}）；检查照常分析",),
        "order_late": ("医嘱（{control}）在结果生成之后到达：结果保持不变，未重新发送",),
        "merged": ("医院已将该患者编号合并到 {stays}；图像及其结果保留原编号",),
        "answered": ("{handler} 用时 {seconds} 秒，结论“{status}”", "：{reason}"),
        "reported": ("{handler} 已出报告：{findings}",),
        "reported_nothing": ("{handler} 已出报告：未陈述所见",),
        "no_result": ("{handler} 没有结果：{reason}",),
        "sent_again": ("人员第 {rounds} 次要求向 {destination} 重发{what}",),
        "taken": ("{destination} 已接收{what}", "，第 {attempts} 次尝试", "，应答 {answer}"),
        "verified": ("已核实 {destination} 持有{what}", "：{how}"),
        "unsure": ("正在核实 {destination} 是否持有{what}，已询问 {checks} 次", "：{note}"),
        "will_be_resent": ("将向 {destination} 再发送一次{what}", "：{note}"),
        "unverifiable": ("{destination} 已接受{what}", "；{note}"),
        "dead_letter": ("{what}未能送达 {destination}，成为死信：{error}",),
        "dropped": ("人员放弃向 {destination} 递送{what}：{note}", "；此前为死信：{error}"),
        "pending": ("{what}等待递送至 {destination}，已尝试 {attempts} 次", "：{error}"),
        "being_removed": ("正在删除 {images} 幅图像及其 {results} 个结果：{reason}",),
        "removed": ("已删除 {images} 幅图像及其 {results} 个结果：{reason}",),
    },
    clause="；",
    reasons=_reasons(
        {
            r"no rule took the study": "没有规则接受该检查",
            r"its images name more than one Patient ID, so they are not read together": "图像含多个患者编号，不予合并",
            r"routing failed (?P<n>\d+) times": "分派失败 {n} 次",
            r"reading failed (?P<n>\d+) times; the log says why": "分析失败 {n} 次，原因见日志",
            r"given to (?P<h>\S+), (?P<n>\d+) series": "交给 {h}，{n} 个序列",
            r"(?P<h>\S+) was already given it by rule (?P<r>[^;]+)": "规则“{r}”已将其交给 {h}",
            r"modality (?P<a>[^;]+) is not (?P<b>[^;]+)": "模态 {a} 不是 {b}",
            r"(?P<a>\d+) images are fewer than (?P<b>\d+)": "图像 {a} 幅，少于 {b} 幅",
            r"its SOP Class is not one the handler reads": "SOP 类不在该处理程序的范围内",
            r"no images": "没有图像",
            r"(?P<k>[A-Z]\w+) is missing": "缺少 {k}",
            r"(?P<k>[A-Z]\w+) is present": "存在 {k}",
            r"(?P<k>[A-Z]\w+) is not (?P<v>[^;]+)": "{k} 不是 {v}",
            r"required series not there yet: (?P<reason>.+)": "必需的序列尚未到达：{reason}",
            r"required series not there: (?P<reason>.+)": "没有必需的序列：{reason}",
            r"required series not there when a person called the study whole: (?P<reason>.+)": (
                "人员确认收齐时没有必需的序列：{reason}"
            ),
            r"required series not there (?P<n>\S+) s after its last image: (?P<reason>.+)": (
                "最后一幅图像后 {n} 秒仍没有必需的序列：{reason}"
            ),
            r"rule '(?P<r>[^;]+?)' waits for a required series: (?P<reason>.+)": "规则“{r}”等待必需的序列：{reason}",
            r"held as '(?P<h>[^;]+?)': (?P<k>\w+) has the word '(?P<w>[^;]+)'": "按“{h}”扣留：{k} 含有“{w}”",
            r"generation (?P<n>\d+) holds its images and more, which came while it waited": (
                "等待期间又有图像到达，由第 {n} 代包含"
            ),
            r"discarded by a person": "由人员弃置",
            r"a person let it go": "由人员放行",
            r"(?P<n>\S+) s, as configured": "{n} 秒，按配置",
            r"(?P<n>\S+) s, learned from (?P<c>\d+) studies of (?P<a>[^;]+)": "{n} 秒，由 {a} 的 {c} 个检查学得",
            r"the sender did not say how many images it holds": "发送方未说明其图像数量",
            r"the sender holds (?P<n>\d+)": "发送方持有 {n} 幅",
            r"the sender holds (?P<n>\d+), which did not come within (?P<s>\S+) s": "发送方持有 {n} 幅，{s} 秒内未到齐",
            r"(?P<n>\d+) days after the last of it": "最后一次变动后满 {n} 天",
            r"the disk was needed for new images": "磁盘空间需留给新图像",
            r"there is no \[destinations\.(?P<d>[^;]+)\] any more": "配置中已没有 [destinations.{d}]",
            r"the stored bytes are not the ones that were made": "存储的内容与生成时不一致",
            r"the stored bytes cannot be read: (?P<e>[^;]+)": "无法读取存储的内容：{e}",
            r"given up after (?P<n>\S+) h: (?P<reason>.+)": "{n} 小时后放弃：{reason}",
            r"never verified in (?P<n>\S+) h: (?P<reason>.+)": "{n} 小时内未能核实：{reason}",
            r"not verifiable: (?P<reason>.+)": "已接受，无法核实：{reason}",
            r"it offers neither storage commitment nor C-FIND": "对方既不支持存储承诺也不支持 C-FIND",
            r"the RIS keeps it, and does not say what becomes of it": "RIS 仅确认收存，不说明处理结果",
            r"verify is \"none\"": "配置为不核实",
            r"it does not offer (?P<w>[^;]+?): (?P<e>[^;]+)": "对方不提供 {w}：{e}",
            r"no report of storage commitment came within (?P<n>\S+) s": "{n} 秒内没有存储承诺报告",
            r"it is not committed: (?P<e>[^;]+)": "对方未作存储承诺：{e}",
            r"the destination does not keep it, also after it was sent again: (?P<reason>.+)": (
                "重发后对方仍未保存：{reason}"
            ),
            r"C-FIND does not find it": "C-FIND 查询不到",
            r"a search does not find it": "检索不到",
            r"C-FIND was answered (?P<c>\S+)": "C-FIND 应答 {c}",
            r"storage commitment was answered (?P<c>\S+)": "存储承诺请求应答 {c}",
            r"accepted before deliveries were verified": "接受于启用核实之前",
            r"(?P<d>[^;]+?) cannot be reached: (?P<e>[^;]+)": "无法连接 {d}：{e}",
            r"(?P<d>[^;]+?): message (?P<m>\S+) was answered (?P<c>[^;]+)": "{d}：消息 {m} 的应答为 {c}",
            r"(?P<d>[^;]+?): (?P<u>[\d.]+) was answered (?P<c>\S+)": "{d}：{u} 的应答为 {c}",
        }
    ),
)

WORDS: Mapping[str, Words] = {"en": EN, "zh": ZH}
